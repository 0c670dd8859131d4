// MemoryStore: a RendezvousStore for ranks that are threads of one test.
#pragma once

#include <map>
#include <string>

#include "base/mutex.h"
#include "worker/trainer/make_collective.h"

namespace sinkforge::trainer {

class MemoryStore final : public RendezvousStore {
 public:
  kernels::Status Put(const std::string& key, const std::string& value) override {
    const base::MutexLock lock(&mutex_);
    values_[key] = value;
    changed_.NotifyAll();
    return kernels::Status();
  }
  kernels::Result<std::string> Get(const std::string& key,
                                   std::chrono::milliseconds timeout) override {
    base::MutexLock lock(&mutex_);
    while (values_.count(key) == 0) {
      if (changed_.WaitFor(&lock, timeout)) continue;
      return kernels::Status(kernels::StatusCode::kUnavailable, key + " did not come");
    }
    return values_[key];
  }

  void Clear() {
    const base::MutexLock lock(&mutex_);
    values_.clear();
  }

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  std::map<std::string, std::string> values_;
};

}  // namespace sinkforge::trainer
