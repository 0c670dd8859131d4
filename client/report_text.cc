// JSON, CSV and HTML of a report; see report_text.h.
#include "client/report_text.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/web/assets.h"
#include "client/format.h"
#include "client/report/page.h"
#include "proto/jobspec/job_file.h"
#include "proto/jobspec/micro_batch.h"

namespace sinkforge::client {
namespace {

using Json = nlohmann::ordered_json;

// "BALANCE_LOSS_CV" -> "cv"
std::string Short(const std::string& name, const std::string& prefix) {
  const bool fits = name.rfind(prefix, 0) == 0;
  return absl::AsciiStrToLower(fits ? name.substr(prefix.size()) : name);
}

// 0: not known yet.
int32_t MicroBatchOf(const v1::Job& job) {
  return jobspec::IsAutoMicroBatch(job.spec().train()) ? job.progress().micro_batch()
                                                       : job.spec().train().micro_batch();
}

Json SummaryOf(const JobReport& report) {
  Json summary;
  for (const char* name :
       {"loss", "imbalance", "importance_min", "importance_max", "tokens_per_second"}) {
    const v1::Series& series = SeriesOf(report.last_steps, name);
    summary[name] = series.points().empty() ? Json() : Json(series.points(0).value());
  }
  const v1::JobProgress& progress = report.job.progress();
  const bool is_validated =
      progress.validation_step() > 0 && progress.validation_bits_per_byte() > 0;
  summary["validation_bits_per_byte"] =
      is_validated ? Json(progress.validation_bits_per_byte()) : Json();
  return summary;
}

Json JsonOf(const JobReport& report) {
  const v1::Job& job = report.job;
  const v1::JobSpec& spec = job.spec();
  Json json;
  json["job_id"] = job.job_id();
  json["state"] = StateName(job.state());
  json["message"] = OneLine(job.message());
  json["attention"] =
      Short(v1::AttentionVariant_Name(spec.model().attention()), "ATTENTION_VARIANT_");
  json["mlp"] = Short(v1::Mlp_Name(spec.model().mlp()), "MLP_");
  json["head_balance"] = Short(v1::BalanceLoss_Name(spec.head_balance().loss()), "BALANCE_LOSS_");
  json["coefficient"] = spec.head_balance().coefficient();
  json["seed"] = spec.train().seed();
  // The rows that the job trains with, which its file does not say where they are `auto`.
  const int32_t rows = MicroBatchOf(job);
  json["micro_batch"] = rows > 0 ? Json(rows) : Json();
  json["micro_batch_is_auto"] = jobspec::IsAutoMicroBatch(spec.train());
  json["parameters"] = job.parameters();
  json["step"] = job.progress().step();
  json["steps"] = spec.train().steps();
  json["create_time"] = FormatTime(job.create_time());
  json["end_time"] = job.has_end_time() ? FormatTime(job.end_time()) : "";
  json["attempts"] = job.attempt();
  json["summary"] = SummaryOf(report);
  json["series"] = Json::object();
  for (const v1::Series& series : report.history.series()) {
    Json points = Json::array();
    for (const v1::Point& point : series.points()) points.push_back({point.step(), point.value()});
    json["series"][series.name()] = std::move(points);
  }
  json["heads"] = Json::array();
  for (const HeadSnapshot& heads : report.heads) {
    json["heads"].push_back({{"step", heads.step}, {"importance", heads.importance}});
  }
  json["environment"] = Json::array();
  for (const v1::Worker& worker : report.workers) {
    json["environment"].push_back({{"worker", worker.worker()},
                                   {"processor", worker.processor()},
                                   {"version", worker.version()}});
  }
  json["job_file"] = jobspec::FormatJobFile(spec);
  return json;
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json DocumentOf(const std::vector<JobReport>& jobs, const ReportStamp& stamp) {
  Json document = {{"generated", stamp.generated}, {"version", stamp.version}};
  document["jobs"] = Json::array();
  for (const JobReport& report : jobs) document["jobs"].push_back(JsonOf(report));
  return document;
}

}  // namespace

std::string RenderReportJson(const std::vector<JobReport>& jobs, const ReportStamp& stamp) {
  return Dump(DocumentOf(jobs, stamp)) + "\n";
}

std::string RenderReportCsv(const std::vector<JobReport>& jobs) {
  std::string csv = "job,series,step,value\n";
  for (const JobReport& report : jobs) {
    const std::string& job_id = report.job.job_id();
    for (const v1::Series& series : report.history.series()) {
      for (const v1::Point& point : series.points()) {
        absl::StrAppend(&csv, job_id, ",", series.name(), ",", point.step(), ",",
                        FormatExact(point.value()), "\n");
      }
    }
    const int32_t rows = MicroBatchOf(report.job);
    if (rows > 0) {
      absl::StrAppend(&csv, job_id, ",micro_batch,", report.job.progress().step(), ",", rows, "\n");
    }
    for (const HeadSnapshot& heads : report.heads) {
      for (size_t layer = 0; layer < heads.importance.size(); ++layer) {
        for (size_t head = 0; head < heads.importance[layer].size(); ++head) {
          absl::StrAppend(&csv, job_id, ",importance/", layer, "/", head, ",", heads.step, ",",
                          FormatExact(heads.importance[layer][head]), "\n");
        }
      }
    }
  }
  return csv;
}

std::string RenderReportHtml(const std::vector<JobReport>& jobs, const ReportStamp& stamp) {
  // Inside a script element only "</script" and "<!--" mean anything; JSON can do without "<".
  const std::string data = absl::StrReplaceAll(Dump(DocumentOf(jobs, stamp)), {{"<", "\\u003c"}});
  const auto text = [](std::string_view view) {
    return absl::string_view(view.data(), view.size());
  };
  return absl::StrReplaceAll(text(kReportHtml), {{"{{style}}", text(web::kStyleCss)},
                                                 {"{{chart}}", text(web::kChartJs)},
                                                 {"{{plots}}", text(web::kPlotsJs)},
                                                 {"{{report}}", text(kReportJs)},
                                                 {"{{data}}", data}});
}

}  // namespace sinkforge::client
