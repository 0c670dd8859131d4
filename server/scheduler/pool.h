// Pool: the slots of all live workers as the scheduler sees them, kept up to date worker by worker.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server::scheduler {

struct DeviceSlots {
  int total = 0;
  std::vector<int> free;  // indices, ascending
};

struct WorkerView {
  std::string worker;
  std::string incarnation;
  bool serves_checkpoints = false;          // others can read from it now
  std::map<v1::Device, DeviceSlots> slots;  // none where it takes no work
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

 private:
  struct Sum {
    int total = 0;
    int free = 0;
  };
  void Count(const WorkerView& view, int sign);

  std::map<std::string, WorkerView> workers_;
  std::map<v1::Device, Sum> sums_;
};

}  // namespace sinkforge::server::scheduler
