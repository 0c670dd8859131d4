// Wakeup: how one thread tells another that there is something to do. News is never lost: what was
// told before the wait began ends the wait at once.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/mutex.h"

namespace sinkforge::worker {

// Thread-safe; owned by whoever waits on it.
class Wakeup {
 public:
  void Notify() EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    ++told_;
    changed_.NotifyAll();
  }

  // Waits until Notify was called since the last Wait returned, or the time is over. True for news.
  // For one waiting thread.
  bool Wait(const std::chrono::nanoseconds timeout) EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    // A spurious wake-up before the time ends the wait early, which every caller tolerates.
    if (told_ == seen_) changed_.WaitFor(&lock, timeout);
    const bool news = told_ != seen_;
    seen_ = told_;
    return news;
  }

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  int64_t told_ GUARDED_BY(mutex_) = 0;
  int64_t seen_ GUARDED_BY(mutex_) = 0;
};

}  // namespace sinkforge::worker
