// Synchronizer: keeps the stream to the coordinator open, for ever. Sends whole snapshots, after
// news at once and else at the interval that the coordinator asks for; hands on what comes back.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"
#include "sinkforge/v1/worker_service.grpc.pb.h"
#include "worker/agent/agent.h"
#include "worker/wakeup.h"

namespace sinkforge::worker {

struct SynchronizerOptions {
  std::string coordinator;    // host:port, for messages
  bool is_encrypted = false;  // the channel, for messages
  // How long a worker that just started tries although another one has its name: a coordinator may
  // take a moment to notice that the former incarnation is gone.
  std::chrono::nanoseconds name_conflict_patience = std::chrono::seconds(3);
  std::chrono::nanoseconds backoff_max = std::chrono::seconds(1);
};

class Synchronizer {
 public:
  struct Callbacks {
    std::function<v1::WorkerSnapshot()> snapshot;
    std::function<int()> trainers;  // how many run
    std::function<void()> on_stream_opened;
    std::function<void(const v1::DesiredState&)> on_desired;
    // Another live worker has this name, and this one has never been accepted. Called once; the
    // synchronizer has given up.
    std::function<void(const std::string& message)> on_name_taken;
  };
  // `clock` is not owned.
  Synchronizer(std::shared_ptr<grpc::Channel> channel, const base::Clock* clock,
               SynchronizerOptions options, Callbacks callbacks);
  ~Synchronizer();

  void Tell(Agent::Parts::Urgency urgency);
  // One more snapshot, then the end of the stream, and of this. Returns when the coordinator has
  // taken it in, or is away, or the time is over. Without it the last snapshot may be lost with the
  // stream, and the coordinator would take a worker that was stopped for one that is lost.
  void SayGoodbye(std::chrono::nanoseconds patience);
  // Whether the stream is open and the coordinator has answered on it.
  bool connected() const { return connected_; }

 private:
  using Stream = grpc::ClientReaderWriter<v1::WorkerSnapshot, v1::DesiredState>;
  void Run();
  // One stream, from its opening to its end.
  grpc::Status RunStream() EXCLUDES_LOCK(mutex_);
  void SendSnapshots(Stream* stream, const std::atomic<bool>& broken);
  // True: give up.
  bool Judge(const grpc::Status& status);

  const std::shared_ptr<grpc::Channel> channel_;
  const base::Clock* const clock_;
  const SynchronizerOptions options_;
  const Callbacks callbacks_;
  Wakeup wakeup_;
  Wakeup stop_;
  Wakeup ended_;  // the thread has nothing more to do
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> leaving_ = false;  // after SayGoodbye
  std::atomic<bool> urgent_ = false;
  std::atomic<bool> soon_ = false;
  std::atomic<bool> connected_ = false;
  std::atomic<int64_t> interval_nanoseconds_;
  bool ever_accepted_ = false;        // of the thread
  int failures_ = 0;                  // of the thread: since the last answer
  std::set<std::string> told_;        // of the thread: why there was none
  std::chrono::nanoseconds started_;  // monotonic
  base::Mutex mutex_;
  grpc::ClientContext* context_ GUARDED_BY(mutex_) = nullptr;  // of the open stream
  std::thread thread_;                                         // last: it uses all of the above
};

}  // namespace sinkforge::worker
