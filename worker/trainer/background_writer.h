// BackgroundWriter: makes snapshots durable one after the other on its own thread, while training
// goes on. It holds at most one snapshot; the next waits until that is written.
#pragma once

#include <functional>
#include <optional>
#include <thread>

#include "base/mutex.h"
#include "kernels/status.h"
#include "worker/trainer/core/host.h"

namespace sinkforge::trainer {

// Owned by a host. Submit and Finish come from one thread.
class BackgroundWriter {
 public:
  using Write = std::function<kernels::Status(const Snapshot&)>;
  // `write` runs on the writer's thread.
  explicit BackgroundWriter(Write write);
  // Waits for a write that has begun.
  ~BackgroundWriter();
  BackgroundWriter(const BackgroundWriter&) = delete;
  BackgroundWriter& operator=(const BackgroundWriter&) = delete;

  // Takes the snapshot once the earlier one is written; returns the earlier one's failure.
  kernels::Status Submit(Snapshot snapshot);
  // Waits for all that was taken; returns the failure of the last, once.
  kernels::Status Finish();

  int64_t durable_step() const;
  bool last_failed() const;

 private:
  void Run();
  kernels::Status TakeFailureLocked() REQUIRES_LOCK(mutex_);

  const Write write_;
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  std::optional<Snapshot> pending_ GUARDED_BY(mutex_);
  kernels::Status failure_ GUARDED_BY(mutex_);
  bool last_failed_ GUARDED_BY(mutex_) = false;
  int64_t durable_step_ GUARDED_BY(mutex_) = 0;
  bool ending_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace sinkforge::trainer
