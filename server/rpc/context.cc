// Unary calls and their durations; see context.h.
#include "server/rpc/context.h"

#include "server/rpc/errors.h"

namespace sinkforge::server {
namespace {

constexpr size_t kFailureBytesMax = 1000;  // clients take 8 KiB of trailing metadata by default

// The only values that the label has.
constexpr const char* kMethods[] = {
    "JobService/SubmitJob",       "JobService/GetJob",
    "JobService/ListJobs",        "JobService/CancelJob",
    "JobService/PauseJob",        "JobService/ResumeJob",
    "JobService/DeleteJob",       "JobService/DeleteCheckpoint",
    "JobService/ListEvents",      "WorkerService/ListWorkers",
    "MetricsService/ReportSteps", "MetricsService/QueryMetrics",
    "LogService/AppendLogs",      "RendezvousService/PutRendezvous",
    "JobService/ListNamespaces",  "JobService/UpdateNamespace",
    "WorkerService/DrainWorker",  "WorkerService/UndrainWorker",
    "WorkerService/ForgetWorker",
};

}  // namespace

RpcTimes::RpcTimes(base::Metrics* metrics) {
  for (const char* method : kMethods) {
    by_method_[method] = metrics->AddHistogram(
        "sinkforge_rpc_seconds", "Duration of unary calls to the coordinator.",
        {{"method", method}}, {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5});
  }
}

void RpcTimes::Observe(const std::string& method, std::chrono::nanoseconds duration) const {
  by_method_.at(method)->Observe(std::chrono::duration<double>(duration).count());
}

UnaryCall::UnaryCall(grpc::CallbackServerContext* context, const RpcContext* rpc,
                     const char* method)
    : context_(context),
      rpc_(rpc),
      method_(method),
      begin_(rpc->clock->Read().monotonic),
      reactor_(context->DefaultReactor()) {}

void UnaryCall::Finish(const absl::Status& status) const {
  rpc_->times->Observe(method_, rpc_->clock->Read().monotonic - begin_);
  const absl::Status failure = rpc_->engine->store_failure();
  if (!failure.ok()) {
    context_->AddTrailingMetadata(kStoreFailureKey,
                                  Shorten(std::string(failure.message()), kFailureBytesMax));
  }
  reactor_->Finish(ToGrpcWithReason(status));
}

}  // namespace sinkforge::server
