// From the spools to the coordinator; see forwarder.h.
#include "worker/rpc/forwarder.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "base/rpc.h"
#include "sinkforge/v1/log_service.grpc.pb.h"
#include "sinkforge/v1/metrics.grpc.pb.h"

namespace sinkforge::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr nanoseconds kCoalesce = milliseconds(20);  // fast steps share a request
constexpr nanoseconds kIdle = milliseconds(500);     // looks for retries that are due
constexpr nanoseconds kBackoffFirst = milliseconds(50);
constexpr nanoseconds kBackoffMax = milliseconds(1000);
constexpr std::chrono::seconds kCallTimeout{10};  // a synced write of a megabyte on a slow disk

}  // namespace

Forwarder::Forwarder(Queue queue, const base::Clock* clock)
    : queue_(std::move(queue)), clock_(clock), thread_([this] { Run(); }) {}

Forwarder::~Forwarder() {
  stopping_ = true;
  stop_.Notify();
  wakeup_.Notify();
  {
    base::MutexLock lock(&mutex_);
    if (context_ != nullptr) context_->TryCancel();
  }
  thread_.join();
}

void Forwarder::Run() {
  nanoseconds wait = nanoseconds(0);  // what a former life left goes first
  while (!stopping_) {
    if (wakeup_.Wait(wait)) stop_.Wait(kCoalesce);
    while (!stopping_ && Round()) {
    }
    wait = retries_.empty() ? kIdle : kBackoffFirst;
  }
}

bool Forwarder::Round() {
  bool sent = false;
  for (const std::string& job_id : queue_.jobs()) {
    const auto retry = retries_.find(job_id);
    if (retry != retries_.end() && clock_->Read().monotonic < retry->second.at) continue;
    grpc::ClientContext context;
    context.set_deadline(clock_->Read().wall + kCallTimeout);
    {
      base::MutexLock lock(&mutex_);
      if (stopping_) return false;
      context_ = &context;
    }
    const absl::StatusOr<Sent> result = queue_.forward(job_id, &context);
    {
      base::MutexLock lock(&mutex_);
      context_ = nullptr;
    }
    if (!result.ok()) {
      NoteFailure(job_id, result.status());
      continue;
    }
    retries_.erase(job_id);
    sent = sent || *result == Sent::kSomething;
  }
  return sent;
}

void Forwarder::NoteFailure(const std::string& job_id, const absl::Status& status) {
  Retry& retry = retries_[job_id];
  // An outage is already in the log; a refusal of the coordinator is worth a line once per job.
  if (retry.failures == 0 && !absl::IsUnavailable(status) && !stopping_) {
    base::LogWarning("the coordinator did not take " + queue_.name + "; kept and tried again",
                     {{"job", job_id}, {"error", std::string(status.message())}});
  }
  const int doublings = std::min(retry.failures++, 10);
  retry.at = clock_->Read().monotonic +
             std::min<nanoseconds>(kBackoffFirst * (1 << doublings), kBackoffMax);
}

Forwarder::Queue StepQueue(StepSpool* spool, std::shared_ptr<grpc::Channel> channel,
                           Sender sender) {
  // Shared because std::function must be copyable.
  const std::shared_ptr<v1::MetricsService::Stub> stub = v1::MetricsService::NewStub(channel);
  Forwarder::Queue queue;
  queue.name = "step records";
  queue.jobs = [spool] { return spool->Jobs(); };
  queue.forward = [spool, stub, sender](
                      const std::string& job_id,
                      grpc::ClientContext* context) -> absl::StatusOr<Forwarder::Sent> {
    auto request = spool->Next(job_id);
    if (!request.ok()) return request.status();
    if (request->steps().empty() && request->starts().empty()) return Forwarder::Sent::kNothing;
    request->set_worker(sender.worker);
    request->set_cluster_id(sender.membership->id());
    v1::ReportStepsResponse response;
    const grpc::Status status = stub->ReportSteps(context, *request, &response);
    if (!status.ok()) return base::FromGrpc(status);
    if (absl::Status removed = spool->Acknowledge(*request); !removed.ok()) return removed;
    return Forwarder::Sent::kSomething;
  };
  return queue;
}

Forwarder::Queue LogQueue(LogSpool* spool, std::shared_ptr<grpc::Channel> channel, Sender sender) {
  const std::shared_ptr<v1::LogService::Stub> stub = v1::LogService::NewStub(channel);
  Forwarder::Queue queue;
  queue.name = "log lines";
  queue.jobs = [spool] { return spool->Jobs(); };
  queue.forward = [spool, stub, sender](
                      const std::string& job_id,
                      grpc::ClientContext* context) -> absl::StatusOr<Forwarder::Sent> {
    auto request = spool->Next(job_id);
    if (!request.ok()) return request.status();
    if (request->lines().empty()) return Forwarder::Sent::kNothing;
    request->set_worker(sender.worker);
    request->set_cluster_id(sender.membership->id());
    v1::AppendLogsResponse response;
    const grpc::Status status = stub->AppendLogs(context, *request, &response);
    if (!status.ok()) return base::FromGrpc(status);
    if (absl::Status removed = spool->Acknowledge(*request); !removed.ok()) return removed;
    return Forwarder::Sent::kSomething;
  };
  return queue;
}

}  // namespace sinkforge::worker
