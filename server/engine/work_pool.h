// WorkPool: a few threads for what reads the disk (queries, logs, events), so that no RPC holds a
// thread of its own and a flood of queries is refused instead of remembered.
#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "server/engine/bounded_queue.h"

namespace sinkforge::server {

// Thread-safe.
class WorkPool {
 public:
  WorkPool(int threads, const QueueLimits& limits);
  // Runs what is queued, then ends the threads.
  ~WorkPool();

  // Runs `work` once, soon. RESOURCE_EXHAUSTED: too much is waiting; UNAVAILABLE: shutting down.
  // `work` does not run then.
  absl::Status Run(std::function<void()> work);

 private:
  void Loop();

  BoundedQueue<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace sinkforge::server
