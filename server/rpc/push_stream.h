// PushStream: a server stream that looks for news whenever something changed, and sends what there
// is, at most one message per interval. It holds no thread: it lives from callbacks.
//
// States: idle; pausing (a timer will end it); preparing (the derived class looks for news);
// writing; ended. The lock is never held while gRPC, the hub or the derived class is called,
// because each of them may call back at once.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "server/rpc/context.h"
#include "server/rpc/errors.h"

namespace sinkforge::server {

// Owns itself from Open until gRPC is done with it.
template <typename Response>
class PushStream : public grpc::ServerWriteReactor<Response>,
                   public std::enable_shared_from_this<PushStream<Response>> {
 public:
  PushStream(const RpcContext* rpc, std::string job_id) : rpc_(rpc), job_id_(std::move(job_id)) {}

  void Open() {
    self_ = this->shared_from_this();
    listener_ = std::make_shared<ChangeListener>();
    listener_->on_change = [weak = this->weak_from_this()](Change change) {
      const auto self = weak.lock();
      if (self != nullptr && self->Cares(change)) self->Poke();
    };
    listener_->on_shutdown = [weak = this->weak_from_this()](const absl::Status& status) {
      if (const auto self = weak.lock()) self->End(status);
    };
    const absl::Status listening = rpc_->hub->Listen(job_id_, listener_);
    if (!listening.ok()) return End(listening);
    // gRPC takes the stream over after the service has returned it; this keeps writes out of that
    // window, and tells the client that it is heard.
    this->StartSendInitialMetadata();
  }

  void OnSendInitialMetadataDone(bool ok) override {
    if (ok) return Poke();
    End(absl::CancelledError("the client has gone"));
  }
  void OnWriteDone(bool ok) override {
    {
      base::MutexLock lock(&mutex_);
      is_written_ = true;
      is_write_ok_ = ok;
      if (is_starting_) return;
    }
    EndWrite();
  }
  void OnCancel() override { End(absl::CancelledError("the client has gone")); }
  void OnDone() override {
    rpc_->hub->Forget(job_id_, listener_.get());
    // The last reference may be this one.
    const auto self = std::move(self_);
  }

 protected:
  enum class Next {
    kChange,  // look again when something changes
    kNow,     // there is more
    kSoon,    // look again in a tenth of a second
    kEnd,     // with the status given
  };

  // Whether there may be news after this change.
  virtual bool Cares(Change change) const = 0;
  // Looks for news, here or elsewhere, and calls Send or Settle once, from any thread.
  virtual void Prepare() = 0;

  // Sends, then goes on as `next` says (kEnd: ends with OK).
  void Send(Response message, Next next) {
    response_ = std::move(message);
    next_after_write_ = next;
    {
      base::MutexLock lock(&mutex_);
      state_ = State::kWriting;
      is_starting_ = true;
      is_written_ = false;
    }
    this->StartWrite(&response_);
    {
      base::MutexLock lock(&mutex_);
      is_starting_ = false;
      if (!is_written_) return;
    }
    EndWrite();
  }
  // There is nothing to send.
  void Settle(Next next, const absl::Status& status = absl::OkStatus()) {
    After(State::kPreparing, next, status);
  }
  const RpcContext* rpc() const { return rpc_; }
  const std::string& job_id() const { return job_id_; }

 private:
  enum class State { kIdle, kPausing, kPreparing, kWriting, kEnded };

  static constexpr std::chrono::milliseconds kInterval{100};

  // Something may have changed.
  void Poke() {
    {
      base::MutexLock lock(&mutex_);
      is_poked_ = true;
      if (state_ != State::kIdle) return;
    }
    Advance();
  }

  // A write has ended when gRPC says so and the call that started it has returned: what comes next
  // may run on another thread and uses the same members.
  void EndWrite() {
    bool ok = false;
    {
      base::MutexLock lock(&mutex_);
      ok = is_write_ok_;
    }
    if (ok) return After(State::kWriting, next_after_write_, absl::OkStatus());
    After(State::kWriting, Next::kEnd, absl::CancelledError("the client has gone"));
  }

  // Asks for the end; it comes when neither a look nor a write is under way.
  void End(const absl::Status& status) {
    {
      base::MutexLock lock(&mutex_);
      if (end_.has_value()) return;
      end_ = status;
      if (state_ == State::kPausing) state_ = State::kIdle;
      if (state_ != State::kIdle) return;
    }
    Advance();
  }

  void After(State expected, Next next, const absl::Status& status) {
    {
      base::MutexLock lock(&mutex_);
      if (state_ != expected) return;
      state_ = State::kIdle;
      if (next == Next::kEnd && !end_.has_value()) end_ = status;
      if (next == Next::kNow) {
        is_poked_ = true;
        looked_ = std::chrono::nanoseconds(0);
      }
      if (next == Next::kSoon) is_poked_ = true;
    }
    Advance();
  }

  // Leaves the idle state where there is a reason to.
  void Advance() {
    std::optional<absl::Status> end;
    std::chrono::nanoseconds pause{0};
    {
      base::MutexLock lock(&mutex_);
      if (state_ != State::kIdle) return;
      if (end_.has_value()) {
        state_ = State::kEnded;
        end = end_;
      } else if (!is_poked_) {
        return;
      } else {
        const auto now = rpc_->clock->Read().monotonic;
        pause = looked_ + kInterval - now;
        state_ = pause.count() > 0 ? State::kPausing : State::kPreparing;
        if (pause.count() <= 0) {
          is_poked_ = false;
          looked_ = now;
        }
      }
    }
    if (end.has_value()) {
      this->Finish(ToGrpcWithReason(*end));
    } else if (pause.count() > 0) {
      rpc_->timers->After(pause, [weak = this->weak_from_this()] {
        if (const auto self = weak.lock()) self->EndPause();
      });
    } else {
      Prepare();
    }
  }

  void EndPause() {
    {
      base::MutexLock lock(&mutex_);
      if (state_ != State::kPausing) return;
      state_ = State::kIdle;
    }
    Advance();
  }

  const RpcContext* const rpc_;
  const std::string job_id_;
  std::shared_ptr<PushStream> self_;
  std::shared_ptr<ChangeListener> listener_;
  Response response_;                      // written by Prepare's thread, read while writing
  Next next_after_write_ = Next::kChange;  // the same
  base::Mutex mutex_;
  State state_ GUARDED_BY(mutex_) = State::kIdle;
  bool is_starting_ GUARDED_BY(mutex_) = false;  // StartWrite has not returned
  bool is_written_ GUARDED_BY(mutex_) = false;   // gRPC is done with the write
  bool is_write_ok_ GUARDED_BY(mutex_) = false;
  bool is_poked_ GUARDED_BY(mutex_) = false;
  std::chrono::nanoseconds looked_ GUARDED_BY(mutex_){0};  // when Prepare last began
  std::optional<absl::Status> end_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::server
