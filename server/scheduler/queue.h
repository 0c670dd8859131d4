// Queue: the jobs that could start now if there were slots, indexed so that the next one is found
// without looking at the others.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server::scheduler {

// Order of service inside a namespace: higher priority first, then the earlier deadline, then first
// come, first served.
struct QueueKey {
  int32_t priority = 0;
  int64_t number = 0;                                      // of the job, in the order of submission
  int64_t deadline = std::numeric_limits<int64_t>::max();  // seconds since 1970; none is the last

  friend bool operator<(const QueueKey& a, const QueueKey& b) {
    if (a.priority != b.priority) return a.priority > b.priority;
    if (a.deadline != b.deadline) return a.deadline < b.deadline;
    return a.number < b.number;
  }
};

struct WaitingJob {
  std::string job_id;
  QueueKey key;
  std::string name_space;
  v1::Device device = v1::DEVICE_UNSPECIFIED;
  int ranks = 1;
  int min_ranks = 1;                 // at most `ranks`; starts with what is free in between
  std::vector<std::string> holders;  // workers that hold the checkpoint to restore; sorted
  std::vector<std::string> avoided;  // workers where it failed lately; sorted
  std::vector<std::string> unfit;    // of these, where it would fail again
};

// Jobs are kept by namespace and then in classes of equal `min_ranks`: whether a job could start
// depends on these and on the device alone, so that a whole class is passed over at once. Not
// thread-safe.
class Queue {
 public:
  using Class = std::map<QueueKey, WaitingJob>;
  using Classes = std::map<int, Class>;  // by min_ranks; no empty ones

  // The key must be new.
  void Add(WaitingJob job);
  // The job must be there.
  void Remove(const WaitingJob& job);
  // Those with jobs for the device, by name.
  const std::map<std::string, Classes>& Namespaces(v1::Device device) const;
  // The first in the order of service among those that can do with `ranks_max` slots; null where
  // there is none. Valid until the next change.
  static const WaitingJob* First(const Classes& classes, int ranks_max);

 private:
  std::map<v1::Device, std::map<std::string, Classes>> devices_;  // no empty namespaces
};

}  // namespace sinkforge::server::scheduler
