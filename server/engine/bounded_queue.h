// BoundedQueue: what one thread takes in groups from what many threads bring. Bounded in items and
// bytes, so that clients that send faster than the disk writes are refused instead of remembered.
// In order within each of two lanes: what somebody waits for, and bulk, of which a group takes a
// share only, so that the former waits for one such share however long the bulk has become.
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

enum class Lane { kPrompt, kBulk };

enum class PushResult { kOk, kFull, kClosed };

// Thread-safe.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(const QueueLimits& limits) : limits_(limits) {}

  PushResult Push(T item, int64_t bytes, Lane lane = Lane::kPrompt) {
    base::MutexLock lock(&mutex_);
    if (closed_) return PushResult::kClosed;
    const bool too_many = static_cast<int64_t>(prompt_.size() + bulk_.size()) >= limits_.items_max;
    const bool too_large = !is_empty() && bytes_ + bytes > limits_.bytes_max;
    if (too_many || too_large) return PushResult::kFull;
    (lane == Lane::kPrompt ? prompt_ : bulk_).emplace_back(std::move(item), bytes);
    bytes_ += bytes;
    not_empty_.NotifyOne();
    return PushResult::kOk;
  }

  // Waits until there is an item, the queue is closed or the time is over; takes at most `max` of
  // the prompt lane, and at most `bulk_max` of the bulk after them.
  std::vector<T> PopGroup(int64_t max, std::chrono::nanoseconds timeout, int64_t bulk_max = 0) {
    base::MutexLock lock(&mutex_);
    if (is_empty() && !closed_) not_empty_.WaitFor(&lock, timeout);
    std::vector<T> group;
    Take(&prompt_, max, &group);
    Take(&bulk_, bulk_max, &group);
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
    return closed_ && is_empty();
  }

 private:
  using Items = std::deque<std::pair<T, int64_t>>;

  bool is_empty() const REQUIRES_LOCK(mutex_) { return prompt_.empty() && bulk_.empty(); }

  void Take(Items* items, int64_t max, std::vector<T>* group) REQUIRES_LOCK(mutex_) {
    for (int64_t i = 0; i < max && !items->empty(); ++i) {
      group->push_back(std::move(items->front().first));
      bytes_ -= items->front().second;
      items->pop_front();
    }
  }

  const QueueLimits limits_;
  mutable base::Mutex mutex_;
  base::CondVar not_empty_;
  Items prompt_ GUARDED_BY(mutex_);
  Items bulk_ GUARDED_BY(mutex_);
  int64_t bytes_ GUARDED_BY(mutex_) = 0;
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace sinkforge::server
