// Best fit with preferences; see placement.h.
#include "server/scheduler/placement.h"

#include <algorithm>
#include <string>

#include "base/check.h"

namespace sinkforge::server::scheduler {
namespace {

bool Contains(const std::vector<std::string>& sorted, const std::string& name) {
  return std::binary_search(sorted.begin(), sorted.end(), name);
}

int FreeOf(const Pool& pool, const std::string& worker, v1::Device device) {
  return static_cast<int>(pool.SlotsOf(worker, device).free.size());
}

// The worker that takes the whole gang, or null. None of those to avoid.
const std::string* SingleWorker(const Pool& pool, const WaitingJob& job, int ranks) {
  const std::string* holder = nullptr;
  for (const std::string& name : job.holders) {
    const int free = FreeOf(pool, name, job.device);
    if (free < ranks || Contains(job.avoided, name)) continue;
    if (holder == nullptr || free < FreeOf(pool, *holder, job.device)) holder = &name;
  }
  if (holder != nullptr) return holder;
  const auto& by_free = pool.ByFree(job.device);
  for (auto it = by_free.lower_bound(ranks); it != by_free.end(); ++it) {
    for (const std::string& name : it->second) {
      if (!Contains(job.avoided, name)) return &name;
    }
  }
  return nullptr;
}

// In the order in which they are filled.
std::vector<std::string> ManyWorkers(const Pool& pool, const WaitingJob& job, int ranks) {
  std::vector<std::string> holders;
  std::vector<std::string> others;
  std::vector<std::string> avoided;
  int found = 0;
  for (const std::string& name : job.holders) {
    const int free = FreeOf(pool, name, job.device);
    if (free == 0 || Contains(job.avoided, name)) continue;
    holders.push_back(name);
    found += free;
  }
  std::stable_sort(holders.begin(), holders.end(), [&](const auto& a, const auto& b) {
    return FreeOf(pool, a, job.device) > FreeOf(pool, b, job.device);
  });
  const auto& by_free = pool.ByFree(job.device);
  for (auto it = by_free.rbegin(); it != by_free.rend() && found < ranks; ++it) {
    for (const std::string& name : it->second) {
      if (Contains(job.avoided, name)) {
        avoided.push_back(name);
      } else if (!Contains(job.holders, name)) {
        others.push_back(name);
        found += it->first;
      }
    }
  }
  holders.insert(holders.end(), others.begin(), others.end());
  holders.insert(holders.end(), avoided.begin(), avoided.end());
  return holders;
}

}  // namespace

std::vector<v1::RankPlacement> Place(const Pool& pool, const WaitingJob& job, int ranks) {
  std::vector<std::string> workers;
  if (const std::string* single = SingleWorker(pool, job, ranks); single != nullptr) {
    workers = {*single};
  } else {
    workers = ManyWorkers(pool, job, ranks);
  }
  std::vector<v1::RankPlacement> placement;
  for (const std::string& name : workers) {
    const WorkerView& view = pool.workers().at(name);
    for (const int slot : view.slots.at(job.device).free) {
      if (static_cast<int>(placement.size()) == ranks) return placement;
      v1::RankPlacement& rank = placement.emplace_back();
      rank.set_rank(static_cast<int>(placement.size()) - 1);
      rank.set_worker(name);
      rank.set_incarnation(view.incarnation);
      rank.set_slot(slot);
    }
  }
  SINKFORGE_REQUIRE(static_cast<int>(placement.size()) == ranks);
  return placement;
}

}  // namespace sinkforge::server::scheduler
