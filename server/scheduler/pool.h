// Pool: the slots of all live workers as the scheduler sees them, kept up to date worker by worker.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server::scheduler {

struct DeviceSlots {
  int total = 0;
  std::vector<int> free;  // indices, ascending
  int leaving = 0;        // taken back from a rank that may still run there
};

struct WorkerView {
  std::string worker;
  std::string incarnation;
  bool serves_checkpoints = false;          // others can read from it now
  std::map<v1::Device, DeviceSlots> slots;  // none where it takes no work
  std::map<v1::Device, int> drained;        // slots that would be there, had no user drained it
};

// Slots that users keep out of use.
struct DrainedSlots {
  int total = 0;
  std::set<std::string> workers;
};

// Not thread-safe.
class Pool {
 public:
  // Adds or replaces the worker of this name.
  void Update(WorkerView view);
  void Erase(const std::string& worker);
  const std::map<std::string, WorkerView>& workers() const { return workers_; }
  // Over all workers.
  int Total(v1::Device device) const;
  int Free(v1::Device device) const;
  int Leaving(v1::Device device) const;
  const DrainedSlots& Drained(v1::Device device) const;
  // None where the worker is not there, or has no such slots. Valid until the next change.
  const DeviceSlots& SlotsOf(const std::string& worker, v1::Device device) const;
  // Of these workers together.
  int TotalOf(const std::vector<std::string>& workers, v1::Device device) const;
  int FreeOf(const std::vector<std::string>& workers, v1::Device device) const;
  // Names by their number of free slots, which is never 0.
  const std::map<int, std::set<std::string>>& ByFree(v1::Device device) const;

 private:
  struct Sum {
    int total = 0;
    int free = 0;
    int leaving = 0;
    DrainedSlots drained;
    std::map<int, std::set<std::string>> by_free;  // no empty ones
  };
  void Count(const WorkerView& view, int sign);
  const Sum& SumOf(v1::Device device) const;

  std::map<std::string, WorkerView> workers_;
  std::map<v1::Device, Sum> sums_;
};

}  // namespace sinkforge::server::scheduler
