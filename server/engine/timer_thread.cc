// Calls back when time has come; see timer_thread.h.
#include "server/engine/timer_thread.h"

namespace sinkforge::server {

TimerThread::TimerThread(const base::Clock* clock) : clock_(clock), thread_([this] { Loop(); }) {}

TimerThread::~TimerThread() {
  {
    base::MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

int64_t TimerThread::After(std::chrono::nanoseconds delay, std::function<void()> fire) {
  const auto due = clock_->Read().monotonic + delay;
  base::MutexLock lock(&mutex_);
  const int64_t number = ++last_number_;
  timers_.emplace(Due{due, number}, std::move(fire));
  due_of_[number] = due;
  changed_.NotifyAll();
  return number;
}

void TimerThread::Cancel(int64_t number) {
  // Declared before the lock, so that it is destroyed without it: it may own what calls back here.
  std::function<void()> dropped;
  base::MutexLock lock(&mutex_);
  const auto found = due_of_.find(number);
  if (found == due_of_.end()) return;
  const auto timer = timers_.find(Due{found->second, number});
  dropped = std::move(timer->second);
  timers_.erase(timer);
  due_of_.erase(found);
}

void TimerThread::Loop() {
  while (true) {
    std::function<void()> fire;
    {
      base::MutexLock lock(&mutex_);
      if (stopping_) return;
      if (timers_.empty()) {
        changed_.Wait(&lock);
        continue;
      }
      const auto first = timers_.begin();
      const auto left = first->first.first - clock_->Read().monotonic;
      if (left.count() > 0) {
        changed_.WaitFor(&lock, left);
        continue;
      }
      fire = std::move(first->second);
      due_of_.erase(first->first.second);
      timers_.erase(first);
    }
    fire();
  }
}

}  // namespace sinkforge::server
