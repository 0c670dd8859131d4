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

int Pool::Total(v1::Device device) const { return SumOf(device).total; }
int Pool::Free(v1::Device device) const { return SumOf(device).free; }
int Pool::Leaving(v1::Device device) const { return SumOf(device).leaving; }
const DrainedSlots& Pool::Drained(v1::Device device) const { return SumOf(device).drained; }

int Pool::TotalOf(const std::vector<std::string>& workers, v1::Device device) const {
  int total = 0;
  for (const std::string& name : workers) total += SlotsOf(name, device).total;
  return total;
}

int Pool::FreeOf(const std::vector<std::string>& workers, v1::Device device) const {
  size_t free = 0;
  for (const std::string& name : workers) free += SlotsOf(name, device).free.size();
  return static_cast<int>(free);
}

const std::map<int, std::set<std::string>>& Pool::ByFree(v1::Device device) const {
  return SumOf(device).by_free;
}

const Pool::Sum& Pool::SumOf(v1::Device device) const {
  static const Sum kNone;
  const auto it = sums_.find(device);
  return it == sums_.end() ? kNone : it->second;
}

const DeviceSlots& Pool::SlotsOf(const std::string& worker, v1::Device device) const {
  static const DeviceSlots kNone;
  const auto view = workers_.find(worker);
  if (view == workers_.end()) return kNone;
  const auto slots = view->second.slots.find(device);
  return slots == view->second.slots.end() ? kNone : slots->second;
}

void Pool::Count(const WorkerView& view, int sign) {
  for (const auto& [device, count] : view.drained) {
    DrainedSlots& drained = sums_[device].drained;
    drained.total += sign * count;
    if (sign > 0) {
      drained.workers.insert(view.worker);
    } else {
      drained.workers.erase(view.worker);
    }
  }
  for (const auto& [device, slots] : view.slots) {
    Sum& sum = sums_[device];
    const int free = static_cast<int>(slots.free.size());
    sum.total += sign * slots.total;
    sum.free += sign * free;
    sum.leaving += sign * slots.leaving;
    if (free == 0) continue;
    std::set<std::string>& names = sum.by_free[free];
    if (sign > 0) {
      names.insert(view.worker);
    } else {
      names.erase(view.worker);
      if (names.empty()) sum.by_free.erase(free);
    }
  }
}

}  // namespace sinkforge::server::scheduler
