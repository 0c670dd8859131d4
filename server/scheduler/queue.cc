// The queue's classes; see queue.h.
#include "server/scheduler/queue.h"

#include <utility>

#include "base/check.h"

namespace sinkforge::server::scheduler {

void Queue::Add(WaitingJob job) {
  Class& jobs = classes_[job.device][job.ranks];
  const QueueKey key = job.key;
  SINKFORGE_REQUIRE(jobs.emplace(key, std::move(job)).second);
}

void Queue::Remove(const WaitingJob& job) {
  const auto by_device = classes_.find(job.device);
  SINKFORGE_REQUIRE(by_device != classes_.end());
  const auto by_ranks = by_device->second.find(job.ranks);
  SINKFORGE_REQUIRE(by_ranks != by_device->second.end());
  const QueueKey key = job.key;  // `job` may be the element that goes away.
  SINKFORGE_REQUIRE(by_ranks->second.erase(key) == 1);
  if (by_ranks->second.empty()) by_device->second.erase(by_ranks);
  if (by_device->second.empty()) classes_.erase(by_device);
}

const WaitingJob* Queue::First(v1::Device device, int ranks_max) const {
  const auto by_device = classes_.find(device);
  if (by_device == classes_.end()) return nullptr;
  const WaitingJob* first = nullptr;
  for (const auto& [ranks, jobs] : by_device->second) {
    if (ranks > ranks_max) break;
    const WaitingJob& head = jobs.begin()->second;
    if (first == nullptr || head.key < first->key) first = &head;
  }
  return first;
}

}  // namespace sinkforge::server::scheduler
