// A generation counter starts a loop; workers spin for a moment before they sleep on it, since the
// loops of a training step follow each other within microseconds.
#include "kernels/cpu/thread_pool.h"

#include "kernels/status.h"

namespace sinkforge::kernels {
namespace {

// About 20 microseconds: longer than the gap between two ops, shorter than two sleeps and wakes.
constexpr int kSpins = 400;

void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// True as soon as `ready` is; false after the last spin.
template <typename Ready>
bool SpinUntil(const Ready& ready) {
  for (int i = 0; i < kSpins; ++i) {
    if (ready()) return true;
    Relax();
  }
  return ready();
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  SINKFORGE_CHECK(threads >= 1);
  for (int thread = 1; thread < threads; ++thread) {
    workers_.emplace_back([this, thread] { WorkerLoop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::RunTasks(int64_t tasks, const void* body, TaskFunction function) {
  if (tasks <= 0) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    body_ = body;
    function_ = function;
    tasks_ = tasks;
    next_task_.store(0, std::memory_order_relaxed);
    open_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  Drain(0);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = false;
  }
  const auto finished = [this] { return inside_.load(std::memory_order_acquire) == 0; };
  if (SpinUntil(finished)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, finished);
}

void ThreadPool::WorkerLoop(int thread) {
  uint64_t seen = 0;
  while (true) {
    const auto moved = [this, seen] { return generation_.load(std::memory_order_acquire) != seen; };
    if (!SpinUntil(moved)) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, moved);
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      seen = generation_.load(std::memory_order_acquire);
      if (stop_) return;
      if (!open_) continue;
      inside_.fetch_add(1, std::memory_order_relaxed);
    }
    Drain(thread);
    if (inside_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      // Under the mutex, so that the caller cannot miss it between its last look and its sleep.
      const std::lock_guard<std::mutex> lock(mutex_);
      done_.notify_one();
    }
  }
}

void ThreadPool::Drain(int thread) {
  for (int64_t task = next_task_.fetch_add(1, std::memory_order_relaxed); task < tasks_;
       task = next_task_.fetch_add(1, std::memory_order_relaxed)) {
    function_(body_, task, thread);
  }
}

}  // namespace sinkforge::kernels
