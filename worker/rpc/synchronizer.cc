// The stream to the coordinator; see synchronizer.h.
#include "worker/rpc/synchronizer.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/rpc_connection.h"

namespace sinkforge::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr nanoseconds kCoalesce = milliseconds(20);  // of urgent news: one snapshot for a burst
constexpr nanoseconds kProgressEvery = milliseconds(200);     // of steps: seen within a second
constexpr nanoseconds kIntervalDefault = milliseconds(1000);  // until the coordinator says
constexpr nanoseconds kIntervalLeast = milliseconds(50);
constexpr nanoseconds kBackoffFirst = milliseconds(50);
constexpr size_t kReasonsMax = 10;  // that one outage is logged with

nanoseconds IntervalOf(const v1::DesiredState& desired) {
  if (!desired.has_snapshot_interval()) return kIntervalDefault;
  return std::max(kIntervalLeast, base::FromProto(desired.snapshot_interval()));
}

}  // namespace

Synchronizer::Synchronizer(std::shared_ptr<grpc::Channel> channel, const base::Clock* clock,
                           SynchronizerOptions options, Callbacks callbacks)
    : channel_(std::move(channel)),
      clock_(clock),
      options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      interval_nanoseconds_(kIntervalDefault.count()),
      started_(clock->Read().monotonic),
      thread_([this] { Run(); }) {}

Synchronizer::~Synchronizer() {
  stopping_ = true;
  stop_.Notify();
  wakeup_.Notify();
  {
    base::MutexLock lock(&mutex_);
    if (context_ != nullptr) context_->TryCancel();
  }
  thread_.join();
}

void Synchronizer::Tell(Agent::Parts::Urgency urgency) {
  if (urgency == Agent::Parts::Urgency::kNow) {
    urgent_ = true;
    wakeup_.Notify();
  } else {
    soon_ = true;
  }
}

void Synchronizer::SayGoodbye(nanoseconds patience) {
  leaving_ = true;
  stop_.Notify();
  wakeup_.Notify();
  ended_.Wait(patience);
}

void Synchronizer::Run() {
  while (!stopping_ && !leaving_) {
    const grpc::Status status = RunStream();
    if (stopping_ || leaving_ || Judge(status)) break;
    const int doublings = std::min(failures_++, 10);
    stop_.Wait(std::min(kBackoffFirst * (1 << doublings), options_.backoff_max));
  }
  ended_.Notify();
}

bool Synchronizer::Judge(const grpc::Status& status) {
  if (status.error_code() == grpc::StatusCode::ALREADY_EXISTS && !ever_accepted_) {
    if (clock_->Read().monotonic - started_ < options_.name_conflict_patience) return false;
    callbacks_.on_name_taken(status.error_message());
    return true;
  }
  // Each reason once in an outage, not at every attempt.
  if (failures_ == 0) told_.clear();
  const bool away = status.error_code() == grpc::StatusCode::UNAVAILABLE || status.ok();
  // The end of a stream that was open says nothing of encryption.
  const bool was_open = failures_ == 0 && ever_accepted_;
  const std::string hint =
      away && !was_open ? base::EncryptionHint(status.error_message(), options_.is_encrypted) : "";
  const std::string error = status.error_message() + (hint.empty() ? "" : "; " + hint);
  if (told_.size() >= kReasonsMax || !told_.insert(error).second) return false;
  const std::string trainers = callbacks_.trainers() > 0 ? "trainers go on, and " : "";
  base::LogWarning(away ? "the coordinator is away; " + trainers + "it is tried until it is back"
                        : "the coordinator refuses this worker; " + trainers + "it is tried again",
                   {{"coordinator", options_.coordinator}, {"error", error}});
  return false;
}

grpc::Status Synchronizer::RunStream() {
  grpc::ClientContext context;
  {
    base::MutexLock lock(&mutex_);
    if (stopping_) return grpc::Status::CANCELLED;
    context_ = &context;
  }
  callbacks_.on_stream_opened();
  auto stub = v1::WorkerService::NewStub(channel_);
  const std::unique_ptr<Stream> stream = stub->Synchronize(&context);
  std::atomic<bool> broken = false;
  std::thread reader([&] {
    v1::DesiredState desired;
    while (stream->Read(&desired)) {
      interval_nanoseconds_ = IntervalOf(desired).count();
      if (!connected_.exchange(true)) {
        base::LogInfo("connected to the coordinator", {{"coordinator", options_.coordinator}});
      }
      callbacks_.on_desired(desired);
    }
    broken = true;
    wakeup_.Notify();
  });
  SendSnapshots(stream.get(), broken);
  // Where the coordinator ended the stream, a cancellation would take the place of its reason.
  if (stopping_) context.TryCancel();
  reader.join();
  const grpc::Status status = stream->Finish();
  if (connected_.exchange(false)) {
    ever_accepted_ = true;
    failures_ = 0;
  }
  base::MutexLock lock(&mutex_);
  context_ = nullptr;
  return status;
}

void Synchronizer::SendSnapshots(Stream* stream, const std::atomic<bool>& broken) {
  nanoseconds sent = clock_->Read().monotonic;
  if (!stream->Write(callbacks_.snapshot())) return;
  while (!broken && !stopping_) {
    if (leaving_) {
      v1::WorkerSnapshot last = callbacks_.snapshot();
      last.set_goodbye(true);
      if (stream->Write(last)) stream->WritesDone();
      return;
    }
    const nanoseconds interval(interval_nanoseconds_);
    const nanoseconds due = sent + interval - clock_->Read().monotonic;
    wakeup_.Wait(std::clamp(due, nanoseconds(0), kProgressEvery));
    if (broken || stopping_) return;
    if (leaving_) continue;
    const nanoseconds since = clock_->Read().monotonic - sent;
    if (urgent_) {
      stop_.Wait(kCoalesce);
    } else if (since < interval && !(soon_ && since >= kProgressEvery)) {
      continue;
    }
    urgent_ = false;
    soon_ = false;
    sent = clock_->Read().monotonic;
    if (!stream->Write(callbacks_.snapshot())) return;
  }
}

}  // namespace sinkforge::worker
