// Waits without threads; see rendezvous_service.h.
#include "server/rpc/rendezvous_service.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/rpc.h"
#include "server/rpc/errors.h"

namespace sinkforge::server {
namespace {

constexpr std::chrono::hours kWaitMax{1};

absl::Status NotCurrent(const std::string& job_id, int64_t attempt) {
  return base::WithReason(
      absl::FailedPreconditionError(absl::StrCat("job ", Shorten(job_id), ": attempt ", attempt,
                                                 " is not its current attempt; stop this rank")),
      "ATTEMPT_ENDED");
}

// One GetRendezvous call: ends with the value, the end of the attempt, the time, or the client.
class Wait final : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<Wait> {
 public:
  Wait(const RpcContext* rpc, const v1::GetRendezvousRequest* request,
       v1::GetRendezvousResponse* response)
      : rpc_(rpc),
        key_{request->job_id(), request->attempt(), request->key()},
        timeout_(std::clamp<std::chrono::nanoseconds>(base::FromProto(request->timeout()),
                                                      std::chrono::nanoseconds(0), kWaitMax)),
        response_(response) {}

  void Open() {
    self_ = shared_from_this();
    rpc_->engine->Read(
        [self = shared_from_this()](const Coordinator& coordinator, const base::Now&) {
          self->Begin(coordinator);
        },
        [self = shared_from_this()](const absl::Status& status) { self->End(status); });
  }

  void OnCancel() override { Cancel(absl::CancelledError("the client has gone")); }

  void OnDone() override {
    int64_t timer = 0;
    {
      base::MutexLock lock(&mutex_);
      timer = timer_;
    }
    rpc_->timers->Cancel(timer);
    // The last reference may be this one.
    const auto self = std::move(self_);
  }

 private:
  // On the engine's thread, as is the end of an attempt: no wait outlives its attempt.
  void Begin(const Coordinator& coordinator) {
    if (!coordinator.IsCurrentAttempt(key_.job_id, key_.attempt)) {
      return End(NotCurrent(key_.job_id, key_.attempt));
    }
    const int64_t waiter = rpc_->rendezvous->Get(
        key_, [self = shared_from_this()](const absl::StatusOr<std::string>& value) {
          if (value.ok()) self->response_->set_value(*value);
          self->End(value.status());
        });
    if (waiter == 0) return;
    absl::Status cancelled;
    {
      base::MutexLock lock(&mutex_);
      waiter_ = waiter;
      cancelled = cancelled_;
    }
    if (!cancelled.ok()) return rpc_->rendezvous->Cancel(waiter, cancelled);
    const int64_t timer = rpc_->timers->After(timeout_, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->TimeOut();
    });
    base::MutexLock lock(&mutex_);
    timer_ = timer;
  }

  void TimeOut() {
    Cancel(absl::DeadlineExceededError(
        absl::StrCat("rendezvous key \"", Shorten(key_.key), "\" of job ", key_.job_id,
                     ", attempt ", key_.attempt, ": no rank has put it in ",
                     std::chrono::duration_cast<std::chrono::milliseconds>(timeout_).count(),
                     " ms; see why that rank has not come in its logs")));
  }

  void Cancel(const absl::Status& status) {
    int64_t waiter = 0;
    {
      base::MutexLock lock(&mutex_);
      cancelled_ = status;
      waiter = waiter_;
    }
    if (waiter != 0) rpc_->rendezvous->Cancel(waiter, status);
  }

  // Called once: by Begin, or by the rendezvous.
  void End(const absl::Status& status) { Finish(ToGrpcWithReason(status)); }

  const RpcContext* const rpc_;
  const RendezvousKey key_;
  const std::chrono::nanoseconds timeout_;
  v1::GetRendezvousResponse* const response_;
  std::shared_ptr<Wait> self_;
  base::Mutex mutex_;
  int64_t waiter_ GUARDED_BY(mutex_) = 0;
  int64_t timer_ GUARDED_BY(mutex_) = 0;
  absl::Status cancelled_ GUARDED_BY(mutex_);
};

}  // namespace

grpc::ServerUnaryReactor* RendezvousServiceImpl::PutRendezvous(
    grpc::CallbackServerContext* context, const v1::PutRendezvousRequest* request,
    v1::PutRendezvousResponse*) {
  const UnaryCall call(context, rpc_, "RendezvousService/PutRendezvous");
  rpc_->engine->Read(
      [=, this](const Coordinator& coordinator, const base::Now&) {
        if (!coordinator.IsCurrentAttempt(request->job_id(), request->attempt())) {
          return call.Finish(NotCurrent(request->job_id(), request->attempt()));
        }
        call.Finish(rpc_->rendezvous->Put({request->job_id(), request->attempt(), request->key()},
                                          request->value()));
      },
      call.finisher());
  return call.reactor();
}

grpc::ServerUnaryReactor* RendezvousServiceImpl::GetRendezvous(
    grpc::CallbackServerContext*, const v1::GetRendezvousRequest* request,
    v1::GetRendezvousResponse* response) {
  const auto wait = std::make_shared<Wait>(rpc_, request, response);
  wait->Open();
  return wait.get();
}

}  // namespace sinkforge::server
