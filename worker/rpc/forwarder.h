// Forwarder: one thread that sends what a spool holds to the coordinator, job by job, in order,
// until it is acknowledged. The two uses (step records, log lines) have a thread each, so that a
// flood of logs never delays the metrics.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "worker/cluster_membership.h"
#include "worker/store/log_spool.h"
#include "worker/store/step_spool.h"
#include "worker/wakeup.h"

namespace sinkforge::worker {

class Forwarder {
 public:
  enum class Sent { kNothing, kSomething };
  struct Queue {
    std::string name;  // for messages: "step records"
    std::function<std::vector<std::string>()> jobs;
    // Sends one batch of the job and removes it from the spool once it is acknowledged.
    std::function<absl::StatusOr<Sent>(const std::string& job_id, grpc::ClientContext* context)>
        forward;
  };
  // `clock` is not owned.
  Forwarder(Queue queue, const base::Clock* clock);
  ~Forwarder();

  // There is something new in the spool.
  void Tell() { wakeup_.Notify(); }

 private:
  struct Retry {
    std::chrono::nanoseconds at{0};  // monotonic
    int failures = 0;
  };
  void Run();
  // One batch of every job that may be tried now. False: nothing was sent.
  bool Round() EXCLUDES_LOCK(mutex_);
  void NoteFailure(const std::string& job_id, const absl::Status& status);

  const Queue queue_;
  const base::Clock* const clock_;
  Wakeup wakeup_;
  Wakeup stop_;
  std::atomic<bool> stopping_ = false;
  std::map<std::string, Retry> retries_;  // of the thread
  base::Mutex mutex_;
  grpc::ClientContext* context_ GUARDED_BY(mutex_) = nullptr;  // of the call under way
  std::thread thread_;                                         // last: it uses all of the above
};

// What goes into the requests beside what the spools have.
struct Sender {
  std::string worker;                             // its name
  const ClusterMembership* membership = nullptr;  // not owned
};

// The spools are not owned.
Forwarder::Queue StepQueue(StepSpool* spool, std::shared_ptr<grpc::Channel> channel, Sender sender);
Forwarder::Queue LogQueue(LogSpool* spool, std::shared_ptr<grpc::Channel> channel, Sender sender);

}  // namespace sinkforge::worker
