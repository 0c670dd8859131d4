// Queue: the jobs that could start now if there were slots, indexed so that the next one is found
// without looking at the others.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server::scheduler {

// Order of service: higher priority first, then first come, first served.
struct QueueKey {
  int32_t priority = 0;
  int64_t number = 0;  // of the job, in the order of submission

  friend bool operator<(const QueueKey& a, const QueueKey& b) {
    return a.priority != b.priority ? a.priority > b.priority : a.number < b.number;
  }
};

struct WaitingJob {
  std::string job_id;
  QueueKey key;
  v1::Device device = v1::DEVICE_UNSPECIFIED;
  int ranks = 1;
  std::vector<std::string> holders;  // workers that hold the checkpoint to restore; sorted
};

// Jobs are kept in classes of equal device and rank count: whether a job could ever fit depends on
// these alone, so that a whole class is passed over at once. Not thread-safe.
class Queue {
 public:
  // The key must be new.
  void Add(WaitingJob job);
  // The job must be there.
  void Remove(const WaitingJob& job);
  // The first in the order of service among the jobs of `device` that need at most `ranks_max`
  // slots; null where there is none. Valid until the next change.
  const WaitingJob* First(v1::Device device, int ranks_max) const;

 private:
  using Class = std::map<QueueKey, WaitingJob>;
  std::map<v1::Device, std::map<int, Class>> classes_;  // no empty ones
};

}  // namespace sinkforge::server::scheduler
