// OrderedPool: work on several threads, whose results are taken in the order in which it was
// submitted. Used by one thread, which submits and takes.
#pragma once

#include <deque>
#include <functional>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace sinkforge::tokenizer {

template <typename Result>
class OrderedPool {
 public:
  // Work receives the number of the thread that runs it, from 0.
  using Work = std::function<Result(int thread)>;

  explicit OrderedPool(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this, i] { Run(i); });
  }
  // Work that no thread has begun is dropped.
  ~OrderedPool() {
    {
      const base::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    changed_.NotifyAll();
    for (std::thread& thread : threads_) thread.join();
  }
  OrderedPool(const OrderedPool&) = delete;
  OrderedPool& operator=(const OrderedPool&) = delete;

  int threads() const { return static_cast<int>(threads_.size()); }
  // Submitted and not taken yet.
  size_t pending() const { return results_.size(); }

  void Submit(Work work) {
    std::packaged_task<Result(int)> task(std::move(work));
    results_.push_back(task.get_future());
    {
      const base::MutexLock lock(&mutex_);
      waiting_.push_back(std::move(task));
    }
    changed_.NotifyOne();
  }

  // The oldest result; waits for it. Something must be pending.
  Result Take() {
    Result result = results_.front().get();
    results_.pop_front();
    return result;
  }

 private:
  void Run(int number) {
    while (true) {
      std::packaged_task<Result(int)> task;
      {
        base::MutexLock lock(&mutex_);
        while (waiting_.empty() && !stopping_) changed_.Wait(&lock);
        if (stopping_) return;
        task = std::move(waiting_.front());
        waiting_.pop_front();
      }
      task(number);
    }
  }

  base::Mutex mutex_;
  base::CondVar changed_;
  std::deque<std::packaged_task<Result(int)>> waiting_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::deque<std::future<Result>> results_;
  std::vector<std::thread> threads_;
};

}  // namespace sinkforge::tokenizer
