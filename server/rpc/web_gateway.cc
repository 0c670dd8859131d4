// Paths, queries and JSON of the page; see web_gateway.h.
#include "server/rpc/web_gateway.h"

#include <google/protobuf/util/json_util.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "base/rpc.h"
#include "base/web/assets.h"
#include "server/web/pages.h"

namespace sinkforge::server {
namespace {

constexpr std::chrono::seconds kCallTime{10};
constexpr char kScript[] = "text/javascript; charset=utf-8";
constexpr char kJson[] = "application/json; charset=utf-8";

struct Asset {
  const char* content_type;
  std::string_view body;
};

const std::map<std::string, Asset>& Assets() {
  static const std::map<std::string, Asset> assets = {
      {"/", {"text/html; charset=utf-8", kIndexHtml}},
      {"/app.js", {kScript, kAppJs}},
      {"/plots.js", {kScript, web::kPlotsJs}},
      {"/chart.js", {kScript, web::kChartJs}},
      {"/style.css", {"text/css; charset=utf-8", web::kStyleCss}},
  };
  return assets;
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  // Only an Any could fail, and there is none.
  SINKFORGE_REQUIRE(google::protobuf::util::MessageToJsonString(message, &json, options).ok());
  return json;
}

// Sets `field` to the number that the query gives under `name`, if it gives one.
template <typename Number>
absl::Status Take(const base::HttpRequest& request, const std::string& name, Number* number) {
  const auto found = request.query.find(name);
  if (found == request.query.end() || absl::SimpleAtoi(found->second, number)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, "=", found->second.substr(0, 100), ": not a number"));
}

std::string Text(const base::HttpRequest& request, const std::string& name) {
  const auto found = request.query.find(name);
  return found == request.query.end() ? "" : found->second;
}

int HttpStatusOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return 400;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return 503;
    default:
      return 500;
  }
}

base::HttpResponse ErrorResponse(const absl::Status& status) {
  const nlohmann::ordered_json error = {{"code", absl::StatusCodeToString(status.code())},
                                        {"message", std::string(status.message())}};
  return {HttpStatusOf(status.code()), kJson,
          error.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

// One unary call, as JSON.
template <typename Stub, typename Request, typename Response>
absl::StatusOr<std::string> Ask(Stub& stub, const base::Clock& clock,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request) {
  grpc::ClientContext context;
  context.set_deadline(clock.Read().wall + kCallTime);
  Response response;
  const absl::Status status = base::FromGrpc((stub.*method)(&context, request, &response));
  if (!status.ok()) return status;
  return ToJson(response);
}

absl::Status NoSuchPath(const std::string& path) {
  return absl::NotFoundError(
      absl::StrCat(path.substr(0, 100), ": nothing is here; the page itself is at /"));
}

}  // namespace

WebGateway::WebGateway(const std::shared_ptr<grpc::Channel>& channel, const base::Clock* clock)
    : clock_(clock),
      jobs_(v1::JobService::NewStub(channel)),
      metrics_(v1::MetricsService::NewStub(channel)),
      workers_(v1::WorkerService::NewStub(channel)) {}

base::HttpResponse WebGateway::Answer(const base::HttpRequest& request) const {
  const auto asset = Assets().find(request.path);
  if (asset != Assets().end()) {
    return {200, asset->second.content_type, std::string(asset->second.body)};
  }
  auto json = Call(request);
  if (!json.ok()) return ErrorResponse(json.status());
  return {200, kJson, *std::move(json)};
}

absl::StatusOr<std::string> WebGateway::Call(const base::HttpRequest& request) const {
  const std::vector<std::string> parts = absl::StrSplit(request.path, '/');
  if (request.path == "/api/workers") {
    return Ask(*workers_, *clock_, &v1::WorkerService::Stub::ListWorkers, v1::ListWorkersRequest());
  }
  if (parts.size() < 3 || parts[1] != "api" || parts[2] != "jobs" || parts.size() > 5) {
    return NoSuchPath(request.path);
  }
  if (parts.size() > 3) return CallOfJob(parts[3], parts.size() > 4 ? parts[4] : "", request);
  v1::ListJobsRequest jobs;
  int32_t page_size = 0;
  const absl::Status taken = Take(request, "page_size", &page_size);
  if (!taken.ok()) return taken;
  jobs.set_page_size(page_size);
  jobs.set_page_token(Text(request, "page_token"));
  jobs.set_namespace_(Text(request, "namespace"));
  jobs.set_sweep(Text(request, "sweep"));
  return Ask(*jobs_, *clock_, &v1::JobService::Stub::ListJobs, jobs);
}

absl::StatusOr<std::string> WebGateway::CallOfJob(const std::string& job_id,
                                                  const std::string& what,
                                                  const base::HttpRequest& request) const {
  if (what.empty()) {
    v1::GetJobRequest job;
    job.set_job_id(job_id);
    return Ask(*jobs_, *clock_, &v1::JobService::Stub::GetJob, job);
  }
  if (what == "events") {
    int64_t after_sequence = 0;
    int32_t page_size = 0;
    absl::Status taken = Take(request, "after_sequence", &after_sequence);
    taken.Update(Take(request, "page_size", &page_size));
    if (!taken.ok()) return taken;
    v1::ListEventsRequest events;
    events.set_job_id(job_id);
    events.set_after_sequence(after_sequence);
    events.set_page_size(page_size);
    return Ask(*jobs_, *clock_, &v1::JobService::Stub::ListEvents, events);
  }
  if (what != "metrics") return NoSuchPath(request.path);
  int64_t first_step = 0;
  int64_t last_step = 0;
  int32_t max_points = 0;
  absl::Status taken = Take(request, "first_step", &first_step);
  taken.Update(Take(request, "last_step", &last_step));
  taken.Update(Take(request, "max_points", &max_points));
  if (!taken.ok()) return taken;
  v1::QueryMetricsRequest metrics;
  metrics.set_job_id(job_id);
  for (const auto& name : absl::StrSplit(Text(request, "series"), ',', absl::SkipEmpty())) {
    metrics.add_series(std::string(name));
  }
  metrics.set_first_step(first_step);
  metrics.set_last_step(last_step);
  metrics.set_max_points(max_points);
  return Ask(*metrics_, *clock_, &v1::MetricsService::Stub::QueryMetrics, metrics);
}

}  // namespace sinkforge::server
