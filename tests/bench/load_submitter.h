// Submitter: a client that submits small jobs, several at a time, and says again what was not
// answered, as clients do.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <semaphore>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "sinkforge/v1/job_service.grpc.pb.h"

namespace sinkforge::bench {

// Thread-safe.
class Submitter {
 public:
  // `prefix`: of its request ids, different for every submitter.
  Submitter(const std::string& address, const std::string& prefix);
  ~Submitter();

  // Submits one job, or says an earlier one again that was not answered. Blocks while too many are
  // under way.
  void Submit();
  // Returns when all have been answered, the last refused ones said again included.
  void Finish();
  // Seconds from the call to its answer, of the jobs acknowledged since the last time.
  std::vector<double> TakeTimes();
  int64_t acknowledged_count() const { return acknowledged_count_; }
  std::set<std::string> acknowledged_jobs() const;

 private:
  static constexpr int kInFlight = 32;
  struct Call;
  void Send(v1::SubmitJobRequest request);
  bool TakeRefused(v1::SubmitJobRequest* request);

  const std::unique_ptr<v1::JobService::Stub> stub_;
  const std::string prefix_;
  std::counting_semaphore<kInFlight> slots_{kInFlight};
  std::atomic<int64_t> count_{0};
  std::atomic<int64_t> acknowledged_count_{0};
  mutable base::Mutex mutex_;
  std::vector<double> times_ GUARDED_BY(mutex_);
  std::set<std::string> jobs_ GUARDED_BY(mutex_);
  std::deque<v1::SubmitJobRequest> refused_ GUARDED_BY(mutex_);
};

// A thread that submits until as many jobs were submitted as `wanted` says: one for each start
// keeps a queue as long as it is.
class Refill {
 public:
  Refill(Submitter* submitter, std::function<int64_t()> wanted);

 private:
  std::jthread thread_;
};

// The ids of all jobs that the coordinator knows.
std::set<std::string> ListJobs(const std::string& address);

}  // namespace sinkforge::bench
