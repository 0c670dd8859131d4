// Sums over the workers' slots; see pool.h.
#include "server/scheduler/pool.h"

#include <utility>

namespace sinkforge::server::scheduler {

void Pool::Update(WorkerView view) {
  Erase(view.worker);
  Count(view, 1);
  const std::string worker = view.worker;
  workers_.emplace(worker, std::move(view));
}

void Pool::Erase(const std::string& worker) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  Count(it->second, -1);
  workers_.erase(it);
}

int Pool::Total(v1::Device device) const {
  const auto it = sums_.find(device);
  return it == sums_.end() ? 0 : it->second.total;
}

int Pool::Free(v1::Device device) const {
  const auto it = sums_.find(device);
  return it == sums_.end() ? 0 : it->second.free;
}

void Pool::Count(const WorkerView& view, int sign) {
  for (const auto& [device, slots] : view.slots) {
    sums_[device].total += sign * slots.total;
    sums_[device].free += sign * static_cast<int>(slots.free.size());
  }
}

}  // namespace sinkforge::server::scheduler
