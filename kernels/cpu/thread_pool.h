// ThreadPool: a fixed number of threads that run the tasks of one parallel loop at a time. Owned by
// the CPU backend; the calling thread is one of the members.
//
// Which thread runs a task is decided by who is free, and a loop ends when its tasks are done, so
// that a thread that the system has taken away holds up one task at most, and none if it has not
// begun. Results do not depend on it, as long as each task writes its own outputs: the partition
// into tasks is the caller's, fixed by the shapes and the number of threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace sinkforge::kernels {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(task, thread) for every task in [0, tasks) and returns when all are done; thread is
  // in [0, threads()) and never runs two tasks at once. Tasks are started in rising order.
  template <typename Body>
  void Run(int64_t tasks, const Body& body) {
    if (tasks == 1 || workers_.empty()) {
      for (int64_t task = 0; task < tasks; ++task) body(task, 0);
      return;
    }
    RunTasks(tasks, &body, [](const void* erased, int64_t task, int thread) {
      (*static_cast<const Body*>(erased))(task, thread);
    });
  }

 private:
  using TaskFunction = void (*)(const void* body, int64_t task, int thread);

  void RunTasks(int64_t tasks, const void* body, TaskFunction function);
  void WorkerLoop(int thread);
  void Drain(int thread);

  std::vector<std::thread> workers_;

  // The loop in hand: written under mutex_ while nobody is inside.
  const void* body_ = nullptr;
  TaskFunction function_ = nullptr;
  int64_t tasks_ = 0;
  std::atomic<int64_t> next_task_{0};

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::atomic<uint64_t> generation_{0};  // moves under mutex_ when a loop opens
  bool open_ = false;                    // guarded by mutex_: workers may still enter the loop
  std::atomic<int> inside_{0};           // workers in the loop; grows under mutex_ while open_
  bool stop_ = false;                    // guarded by mutex_
};

}  // namespace sinkforge::kernels
