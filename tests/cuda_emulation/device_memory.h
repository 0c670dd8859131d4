// How much of the emulated device's memory is taken, as cudaMemGetInfo says it.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

namespace emulation {

class DeviceMemory {
 public:
  static DeviceMemory& Get() {
    static DeviceMemory memory;
    return memory;
  }

  void Take(const void* block, size_t bytes) {
    const std::lock_guard lock(mutex_);
    blocks_[block] = bytes;
    taken_ += bytes;
  }
  void Release(const void* block) {
    const std::lock_guard lock(mutex_);
    const auto found = blocks_.find(block);
    if (found == blocks_.end()) return;
    taken_ -= found->second;
    blocks_.erase(found);
  }
  size_t taken() {
    const std::lock_guard lock(mutex_);
    return taken_;
  }

 private:
  std::mutex mutex_;
  std::map<const void*, size_t> blocks_;
  size_t taken_ = 0;
};

}  // namespace emulation
