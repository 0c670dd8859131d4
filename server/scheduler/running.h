// Running: the attempts under way as the scheduler sees them: what can be taken from whom, and what
// that would lose.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "server/scheduler/queue.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server::scheduler {

struct RunningJob {
  std::string job_id;
  QueueKey key;
  v1::Device device = v1::DEVICE_UNSPECIFIED;
  std::string name_space;
  int ranks = 1;
  int ranks_wanted = 1;
  bool stopping = false;                   // asked to checkpoint and stop
  std::string lent_from;                   // see v1::Job
  std::vector<std::string> unfit;          // workers that it does not grow onto; sorted
  std::chrono::nanoseconds started{0};     // monotonic, like all times here
  std::chrono::nanoseconds safe_until{0};  // work up to here is in a committed checkpoint
};

// Work that an eviction at `now` would have to repeat, in seconds times ranks.
double WorkAtRisk(const RunningJob& job, std::chrono::nanoseconds now);

// Not thread-safe.
class Running {
 public:
  using Jobs = std::map<int64_t, RunningJob>;  // by number

  void Add(const RunningJob& job);
  // Nothing where it is not there.
  void Remove(int64_t number);
  // What was lent from the job (v1::Job.lent_from) belongs to the borrowers now; their numbers.
  std::vector<int64_t> GiveAway(const std::string& job_id);
  void SetStopping(int64_t number, bool stopping);
  void SetSafe(int64_t number, std::chrono::nanoseconds safe_until);
  const Jobs& jobs() const { return jobs_; }

  // Slots of attempts that stop.
  int Stopping(v1::Device device) const;
  // Slots of attempts that do not stop: backfilled ones, and all of lower priority than that.
  int Lent(v1::Device device) const;
  int Below(v1::Device device, int32_t priority) const;
  // Numbers of attempts with fewer ranks than wanted.
  const std::set<int64_t>& undersized() const { return undersized_; }

 private:
  struct Sums {
    int stopping = 0;
    int lent = 0;
    std::map<int32_t, int> by_priority;  // no zeros
  };
  void Count(const RunningJob& job, int sign);
  const Sums* SumsOf(v1::Device device) const;

  Jobs jobs_;
  std::set<int64_t> undersized_;
  std::map<std::string, std::set<int64_t>> borrowers_;  // by lent_from; no empty ones
  std::map<v1::Device, Sums> sums_;
};

}  // namespace sinkforge::server::scheduler
