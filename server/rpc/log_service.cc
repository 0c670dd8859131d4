// Appending and reading of log lines; see log_service.h.
#include "server/rpc/log_service.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/rpc/errors.h"
#include "server/rpc/log_stream.h"

namespace sinkforge::server {
namespace {

constexpr int kLinesMax = 10'000;          // of one request
constexpr size_t kTextBytesMax = 8 << 10;  // of one line

absl::Status CheckLines(const v1::AppendLogsRequest& request) {
  if (request.lines_size() > kLinesMax) {
    return InvalidField(
        "lines", absl::StrCat("at most ", kLinesMax, " lines in one request; send ", "several"));
  }
  for (const v1::LogLine& line : request.lines()) {
    if (line.attempt() < 1 || line.rank() < 0 || line.sequence() < 1) {
      return InvalidField(
          "lines",
          absl::StrCat("attempt ", line.attempt(), ", rank ", line.rank(), ", sequence ",
                       line.sequence(), ": attempts and sequences count from 1, ranks ", "from 0"));
    }
    if (line.text().size() > kTextBytesMax) {
      return InvalidField("lines.text", absl::StrCat(line.text().size(), " bytes, the limit is ",
                                                     kTextBytesMax, "; split the line"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* LogServiceImpl::AppendLogs(grpc::CallbackServerContext* context,
                                                     const v1::AppendLogsRequest* request,
                                                     v1::AppendLogsResponse*) {
  const UnaryCall call(context, rpc_, "LogService/AppendLogs");
  absl::Status checked = rpc_->cluster->Check(request->worker(), request->cluster_id());
  if (checked.ok()) checked = CheckLines(*request);
  if (!checked.ok()) {
    call.Finish(checked);
    return call.reactor();
  }
  const auto written = [=, this](const absl::Status& status) {
    if (status.ok()) rpc_->hub->Notify(request->job_id(), Change::kLogs);
    call.Finish(status);
  };
  rpc_->engine->Read(
      [=, this](const Coordinator& coordinator, const base::Now&) {
        // Lines of a deleted job are dropped, so that its worker's spool gets rid of them.
        if (coordinator.Find(request->job_id()) == nullptr) return call.Finish(absl::OkStatus());
        rpc_->log_writer->Add(*request, written);
      },
      call.finisher());
  return call.reactor();
}

grpc::ServerWriteReactor<v1::ReadLogsResponse>* LogServiceImpl::ReadLogs(
    grpc::CallbackServerContext*, const v1::ReadLogsRequest* request) {
  const auto stream = std::make_shared<LogStream>(rpc_, *request);
  stream->Open();
  return stream.get();
}

}  // namespace sinkforge::server
