// Reports and queries of step records; see metrics_service.h.
#include "server/rpc/metrics_service.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/jobspec/validate.h"
#include "server/engine/metric_query.h"
#include "server/rpc/errors.h"

namespace sinkforge::server {
namespace {

constexpr int kStepsMax = 10'000;  // of one report
constexpr int kStartsMax = 1000;   // of one report

absl::Status CheckRecord(const v1::StepRecord& record) {
  if (record.step() < 1 || record.step() > jobspec::kStepsMax) {
    return InvalidField(
        "steps.step", absl::StrCat(record.step(), ": steps count from 1 to ", jobspec::kStepsMax));
  }
  if (record.attempt() < 1) {
    return InvalidField("steps.attempt", absl::StrCat(record.attempt(), ": attempts count from 1"));
  }
  if (record.layer_cv_size() > jobspec::kLayersMax ||
      record.importance_size() > jobspec::kLayerHeadsMax || record.heads() < 0 ||
      record.heads() > jobspec::kHeadsMax) {
    return InvalidField("steps",
                        absl::StrCat("step ", record.step(), " has ", record.layer_cv_size(),
                                     " layers and ", record.importance_size(), " importances of ",
                                     record.heads(), " heads a layer: more than a model has"));
  }
  return absl::OkStatus();
}

absl::Status CheckReport(const v1::ReportStepsRequest& report) {
  if (report.steps_size() > kStepsMax || report.starts_size() > kStartsMax) {
    return InvalidField("steps", absl::StrCat("at most ", kStepsMax, " records and ", kStartsMax,
                                              " attempt starts in one report; send several"));
  }
  for (const v1::AttemptStart& start : report.starts()) {
    if (start.attempt() < 1 || start.restored_step() < 0) {
      return InvalidField(
          "starts", absl::StrCat("attempt ", start.attempt(), " restored at step ",
                                 start.restored_step(), ": attempts count from 1, steps from 0"));
    }
  }
  for (const v1::StepRecord& record : report.steps()) {
    const absl::Status checked = CheckRecord(record);
    if (!checked.ok()) return checked;
  }
  return absl::OkStatus();
}

int64_t NewestAttempt(const v1::ReportStepsRequest& report) {
  int64_t newest = 0;
  for (const v1::AttemptStart& start : report.starts()) newest = std::max(newest, start.attempt());
  for (const v1::StepRecord& record : report.steps()) newest = std::max(newest, record.attempt());
  return newest;
}

}  // namespace

grpc::ServerUnaryReactor* MetricsServiceImpl::ReportSteps(grpc::CallbackServerContext* context,
                                                          const v1::ReportStepsRequest* request,
                                                          v1::ReportStepsResponse*) {
  const UnaryCall call(context, rpc_, "MetricsService/ReportSteps");
  absl::Status checked = rpc_->cluster->Check(request->worker(), request->cluster_id());
  if (checked.ok()) checked = CheckReport(*request);
  if (!checked.ok()) {
    call.Finish(checked);
    return call.reactor();
  }
  const auto written = [=, this](const absl::Status& status) {
    if (status.ok()) {
      rpc_->step_records->Increment(request->steps_size());
      rpc_->hub->Notify(request->job_id(), Change::kHistory);
    }
    call.Finish(status);
  };
  rpc_->engine->Read(
      [=, this](const Coordinator& coordinator, const base::Now&) {
        const v1::Job* job = coordinator.Find(request->job_id());
        // Points of a deleted job are dropped, so that its worker's spool gets rid of them.
        if (job == nullptr) return call.Finish(absl::OkStatus());
        if (NewestAttempt(*request) > job->attempt()) {
          return call.Finish(InvalidField(
              "steps.attempt",
              absl::StrCat("job ", job->job_id(), " has had ", job->attempt(), " attempts only")));
        }
        rpc_->step_writer->Add(*request, written);
      },
      call.finisher());
  return call.reactor();
}

grpc::ServerUnaryReactor* MetricsServiceImpl::QueryMetrics(grpc::CallbackServerContext* context,
                                                           const v1::QueryMetricsRequest* request,
                                                           v1::QueryMetricsResponse* response) {
  const UnaryCall call(context, rpc_, "MetricsService/QueryMetrics");
  rpc_->engine->Read(
      [=, this](const Coordinator& coordinator, const base::Now&) {
        const v1::Job* job = coordinator.Find(request->job_id());
        if (job == nullptr) return call.Finish(JobNotFound(request->job_id()));
        if (request->has_attempt()) {
          const absl::Status known = CheckAttempt(*job, request->attempt());
          if (!known.ok()) return call.Finish(known);
        }
        const ModelShape shape{job->spec().model().layers(), job->spec().model().heads()};
        const absl::Status queued = rpc_->pool->Run([=, this] {
          auto result = QueryHistory(*rpc_->history, *request, shape,
                                     [&call] { return call.is_cancelled(); });
          if (result.ok()) *response = *std::move(result);
          call.Finish(result.status());
        });
        if (!queued.ok()) call.Finish(queued);
      },
      call.finisher());
  return call.reactor();
}

}  // namespace sinkforge::server
