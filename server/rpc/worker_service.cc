// Synchronize by callbacks: no thread per worker; see worker_service.h.
#include "server/rpc/worker_service.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/rpc.h"
#include "server/rpc/errors.h"

namespace sinkforge::server {
namespace {

constexpr int kStreamsMax = 2048;  // twice the workers, for those that reconnect

// One Synchronize call. Reads one snapshot at a time: the next one is read when the engine has
// taken this one in, so that a worker that sends too fast waits in its own TCP connection. The lock
// is never held while gRPC is called, because gRPC may call back at once.
class SynchronizeStream final
    : public grpc::ServerBidiReactor<v1::WorkerSnapshot, v1::DesiredState>,
      public std::enable_shared_from_this<SynchronizeStream> {
 public:
  SynchronizeStream(const RpcContext* rpc, std::shared_ptr<std::atomic<int>> stream_count)
      : rpc_(rpc), stream_count_(std::move(stream_count)) {}

  void Open() {
    self_ = shared_from_this();
    link_ = std::make_shared<WorkerLink>();
    link_->send = [weak = weak_from_this()](v1::DesiredState state) {
      if (const auto self = weak.lock()) self->Send(std::move(state));
    };
    link_->close = [weak = weak_from_this()](const absl::Status& status) {
      if (const auto self = weak.lock()) self->Close(status);
    };
    if (stream_count_->fetch_add(1) >= kStreamsMax) {
      return Close(absl::ResourceExhaustedError(
          absl::StrCat(kStreamsMax, " workers are connected, the limit; stop one first")));
    }
    ReadNext();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Close(absl::OkStatus());
    if (worker_.empty()) {
      worker_ = snapshot_.worker();
      incarnation_ = snapshot_.incarnation();
    }
    if (snapshot_.worker() != worker_ || snapshot_.incarnation() != incarnation_) {
      return Close(InvalidField("worker",
                                "a stream belongs to one start of one worker; open a new "
                                "stream for another"));
    }
    const absl::Status ours = rpc_->cluster->Check(worker_, snapshot_.cluster_id());
    if (!ours.ok()) return Close(ours);
    rpc_->engine->Synchronize(
        link_, std::move(snapshot_),
        [self = shared_from_this()](const absl::Status& status) { self->Answer(status); });
  }

  void OnWriteDone(bool ok) override {
    {
      base::MutexLock lock(&mutex_);
      is_written_ = true;
      if (!ok && !end_.has_value()) end_ = absl::CancelledError("the worker has gone");
      if (is_starting_write_) return;
    }
    EndWrite();
  }

  void OnCancel() override { Close(absl::CancelledError("the worker has gone")); }

  void OnDone() override {
    stream_count_->fetch_sub(1);
    rpc_->engine->Disconnect(link_);
    // The last reference may be this one.
    const auto self = std::move(self_);
  }

 private:
  void Send(v1::DesiredState state) {
    {
      base::MutexLock lock(&mutex_);
      if (end_.has_value()) return;
      next_ = std::move(state);
      next_->set_cluster_id(rpc_->cluster->id());
    }
    WriteNext();
  }

  void WriteNext() {
    {
      base::MutexLock lock(&mutex_);
      if (is_writing_ || end_.has_value() || !next_.has_value()) return;
      is_writing_ = true;
      is_starting_write_ = true;
      is_written_ = false;
      writing_ = *std::move(next_);
      next_.reset();
    }
    StartWrite(&writing_);
    {
      base::MutexLock lock(&mutex_);
      is_starting_write_ = false;
      if (!is_written_) return;
    }
    EndWrite();
  }

  // A write has ended when gRPC says so and the call that started it has returned: the next one may
  // run on another thread and uses the same members.
  void EndWrite() {
    {
      base::MutexLock lock(&mutex_);
      is_writing_ = false;
    }
    WriteNext();
    FinishIfDue();
  }

  // Asks for the end.
  void Close(const absl::Status& status) {
    {
      base::MutexLock lock(&mutex_);
      if (!end_.has_value()) end_ = status;
    }
    FinishIfDue();
  }

  void Answer(const absl::Status& status) {
    // A store that cannot be written is no reason to disconnect: the next snapshot says it again.
    if (!status.ok() && !absl::IsUnavailable(status)) return Close(status);
    ReadNext();
  }

  void ReadNext() {
    {
      base::MutexLock lock(&mutex_);
      if (end_.has_value()) return;
      is_starting_read_ = true;
    }
    StartRead(&snapshot_);
    {
      base::MutexLock lock(&mutex_);
      is_starting_read_ = false;
    }
    FinishIfDue();
  }

  // Once, when the end was asked for, no write is under way (its message would be lost) and nothing
  // is being started (gRPC allows nothing after Finish).
  void FinishIfDue() {
    absl::Status status;
    {
      base::MutexLock lock(&mutex_);
      if (!end_.has_value() || is_writing_ || is_starting_read_ || is_finished_) return;
      is_finished_ = true;
      status = *end_;
    }
    Finish(ToGrpcWithReason(status));
  }

  const RpcContext* const rpc_;
  const std::shared_ptr<std::atomic<int>> stream_count_;
  std::shared_ptr<SynchronizeStream> self_;
  std::shared_ptr<WorkerLink> link_;
  v1::WorkerSnapshot snapshot_;  // the read under way owns it
  std::string worker_;           // reads use these two, one at a time
  std::string incarnation_;
  base::Mutex mutex_;
  v1::DesiredState writing_;  // the write under way owns it
  bool is_writing_ GUARDED_BY(mutex_) = false;
  bool is_starting_write_ GUARDED_BY(mutex_) = false;  // StartWrite has not returned
  bool is_written_ GUARDED_BY(mutex_) = false;         // gRPC is done with the write
  bool is_starting_read_ GUARDED_BY(mutex_) = false;
  bool is_finished_ GUARDED_BY(mutex_) = false;
  std::optional<v1::DesiredState> next_ GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ GUARDED_BY(mutex_);
};

template <typename Request, typename Response>
grpc::ServerUnaryReactor* Act(
    const UnaryCall& call, Engine* engine, const Request* request, Response* response,
    absl::StatusOr<Response> (Coordinator::*action)(const Request&, const base::Now&, Effects*)) {
  engine->Mutate(
      [=](Coordinator& coordinator, const base::Now& now, Effects* effects) {
        auto result = (coordinator.*action)(*request, now, effects);
        if (absl::IsNotFound(result.status())) {
          return base::WithReason(result.status(), "WORKER_NOT_FOUND");
        }
        if (!result.ok()) return result.status();
        *response = *std::move(result);
        return absl::OkStatus();
      },
      call.finisher(), static_cast<int64_t>(request->ByteSizeLong()));
  return call.reactor();
}

}  // namespace

grpc::ServerBidiReactor<v1::WorkerSnapshot, v1::DesiredState>* WorkerServiceImpl::Synchronize(
    grpc::CallbackServerContext*) {
  const auto stream = std::make_shared<SynchronizeStream>(rpc_, stream_count_);
  stream->Open();
  return stream.get();
}

grpc::ServerUnaryReactor* WorkerServiceImpl::ListWorkers(grpc::CallbackServerContext* context,
                                                         const v1::ListWorkersRequest*,
                                                         v1::ListWorkersResponse* response) {
  const UnaryCall call(context, rpc_, "WorkerService/ListWorkers");
  rpc_->engine->Read(
      [=, engine = rpc_->engine](const Coordinator& coordinator, const base::Now& now) {
        for (v1::Worker& worker : engine->Workers(coordinator, now)) {
          *response->add_workers() = std::move(worker);
        }
        call.Finish(absl::OkStatus());
      },
      call.finisher());
  return call.reactor();
}

grpc::ServerUnaryReactor* WorkerServiceImpl::DrainWorker(grpc::CallbackServerContext* context,
                                                         const v1::DrainWorkerRequest* request,
                                                         v1::Worker* response) {
  return Act(UnaryCall(context, rpc_, "WorkerService/DrainWorker"), rpc_->engine, request, response,
             &Coordinator::DrainWorker);
}

grpc::ServerUnaryReactor* WorkerServiceImpl::UndrainWorker(grpc::CallbackServerContext* context,
                                                           const v1::UndrainWorkerRequest* request,
                                                           v1::Worker* response) {
  return Act(UnaryCall(context, rpc_, "WorkerService/UndrainWorker"), rpc_->engine, request,
             response, &Coordinator::UndrainWorker);
}

grpc::ServerUnaryReactor* WorkerServiceImpl::ForgetWorker(grpc::CallbackServerContext* context,
                                                          const v1::ForgetWorkerRequest* request,
                                                          v1::ForgetWorkerResponse* response) {
  const UnaryCall call(context, rpc_, "WorkerService/ForgetWorker");
  const absl::Status checked = CheckRequestId(request->request_id());
  if (!checked.ok()) {
    call.Finish(checked);
    return call.reactor();
  }
  return Act(call, rpc_->engine, request, response, &Coordinator::ForgetWorker);
}

}  // namespace sinkforge::server
