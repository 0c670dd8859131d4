// BoundedQueue: what one thread takes in groups from what many threads bring. Bounded in items and
// bytes, so that clients that send faster than the disk writes are refused instead of remembered.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace sinkforge::server {

struct QueueLimits {
  int64_t items_max = 4096;
  int64_t bytes_max = 64 << 20;  // one item may be larger when it is alone
};

enum class PushResult { kOk, kFull, kClosed };

// Thread-safe.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(const QueueLimits& limits) : limits_(limits) {}

  PushResult Push(T item, int64_t bytes) {
    base::MutexLock lock(&mutex_);
    if (closed_) return PushResult::kClosed;
    const bool too_many = static_cast<int64_t>(items_.size()) >= limits_.items_max;
    const bool too_large = !items_.empty() && bytes_ + bytes > limits_.bytes_max;
    if (too_many || too_large) return PushResult::kFull;
    items_.emplace_back(std::move(item), bytes);
    bytes_ += bytes;
    not_empty_.NotifyOne();
    return PushResult::kOk;
  }

  // Waits until there is an item, the queue is closed or the time is over; takes at most `max`.
  std::vector<T> PopGroup(int64_t max, std::chrono::nanoseconds timeout) {
    base::MutexLock lock(&mutex_);
    if (items_.empty() && !closed_) not_empty_.WaitFor(&lock, timeout);
    std::vector<T> group;
    while (!items_.empty() && static_cast<int64_t>(group.size()) < max) {
      group.push_back(std::move(items_.front().first));
      bytes_ -= items_.front().second;
      items_.pop_front();
    }
    return group;
  }

  // What is in the queue can still be taken; nothing more goes in.
  void Close() {
    base::MutexLock lock(&mutex_);
    closed_ = true;
    not_empty_.NotifyAll();
  }

  bool drained() const {
    base::MutexLock lock(&mutex_);
    return closed_ && items_.empty();
  }

 private:
  const QueueLimits limits_;
  mutable base::Mutex mutex_;
  base::CondVar not_empty_;
  std::deque<std::pair<T, int64_t>> items_ GUARDED_BY(mutex_);
  int64_t bytes_ GUARDED_BY(mutex_) = 0;
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace sinkforge::server
