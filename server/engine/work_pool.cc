// Threads that run queued work; see work_pool.h.
#include "server/engine/work_pool.h"

#include <chrono>
#include <utility>

namespace sinkforge::server {

WorkPool::WorkPool(int threads, const QueueLimits& limits) : queue_(limits) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
}

WorkPool::~WorkPool() {
  queue_.Close();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status WorkPool::Run(std::function<void()> work) {
  switch (queue_.Push(std::move(work), 0)) {
    case PushResult::kOk:
      return absl::OkStatus();
    case PushResult::kFull:
      return absl::ResourceExhaustedError(
          "too many queries are waiting; try again in a moment, with a smaller range");
    case PushResult::kClosed:
      break;
  }
  return absl::UnavailableError("the coordinator is shutting down; try again in a moment");
}

void WorkPool::Loop() {
  while (!queue_.drained()) {
    for (const auto& work : queue_.PopGroup(1, std::chrono::seconds(1))) work();
  }
}

}  // namespace sinkforge::server
