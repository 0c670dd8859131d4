// The queue's classes; see queue.h.
#include "server/scheduler/queue.h"

#include <utility>

#include "base/check.h"

namespace sinkforge::server::scheduler {

void Queue::Add(WaitingJob job) {
  Class& jobs = devices_[job.device][job.name_space][job.min_ranks];
  const QueueKey key = job.key;
  SINKFORGE_REQUIRE(jobs.emplace(key, std::move(job)).second);
}

void Queue::Remove(const WaitingJob& job) {
  auto& names = devices_[job.device];
  const auto classes = names.find(job.name_space);
  SINKFORGE_REQUIRE(classes != names.end());
  const auto jobs = classes->second.find(job.min_ranks);
  SINKFORGE_REQUIRE(jobs != classes->second.end());
  const QueueKey key = job.key;  // `job` may be the element that goes away.
  SINKFORGE_REQUIRE(jobs->second.erase(key) == 1);
  if (jobs->second.empty()) classes->second.erase(jobs);
  if (classes->second.empty()) names.erase(classes);
}

const std::map<std::string, Queue::Classes>& Queue::Namespaces(v1::Device device) const {
  static const std::map<std::string, Classes> kNone;
  const auto names = devices_.find(device);
  return names == devices_.end() ? kNone : names->second;
}

const WaitingJob* Queue::First(const Classes& classes, int ranks_max) {
  const WaitingJob* first = nullptr;
  for (const auto& [ranks, jobs] : classes) {
    if (ranks > ranks_max) break;
    const WaitingJob& head = jobs.begin()->second;
    if (first == nullptr || head.key < first->key) first = &head;
  }
  return first;
}

}  // namespace sinkforge::server::scheduler
