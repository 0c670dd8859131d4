// TimerThread: one thread that calls back after a while. For pacing and time-outs of RPCs.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"

namespace sinkforge::server {

// Thread-safe.
class TimerThread {
 public:
  explicit TimerThread(const base::Clock* clock);
  // What has not fired by then never does.
  ~TimerThread();

  // Calls `fire` once, on the timer's thread, unless it is cancelled first; it must be short.
  // Returns a number for Cancel, never 0.
  int64_t After(std::chrono::nanoseconds delay, std::function<void()> fire);
  // Nothing where it has fired, or is firing.
  void Cancel(int64_t number);

 private:
  using Due = std::pair<std::chrono::nanoseconds, int64_t>;  // monotonic time, number

  void Loop();

  const base::Clock* const clock_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::map<Due, std::function<void()>> timers_ GUARDED_BY(mutex_);
  std::map<int64_t, std::chrono::nanoseconds> due_of_ GUARDED_BY(mutex_);
  int64_t last_number_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace sinkforge::server
