// The snapshot stays in pending_ while it is written, so that its memory is counted once.
#include "worker/trainer/background_writer.h"

#include <utility>

namespace sinkforge::trainer {

using kernels::Status;

BackgroundWriter::BackgroundWriter(Write write)
    : write_(std::move(write)), thread_([this] { Run(); }) {}

BackgroundWriter::~BackgroundWriter() {
  {
    const base::MutexLock lock(&mutex_);
    ending_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

Status BackgroundWriter::Submit(Snapshot snapshot) {
  base::MutexLock lock(&mutex_);
  while (pending_.has_value()) changed_.Wait(&lock);
  pending_ = std::move(snapshot);
  changed_.NotifyAll();
  return TakeFailureLocked();
}

Status BackgroundWriter::Finish() {
  base::MutexLock lock(&mutex_);
  while (pending_.has_value()) changed_.Wait(&lock);
  return TakeFailureLocked();
}

int64_t BackgroundWriter::durable_step() const {
  const base::MutexLock lock(&mutex_);
  return durable_step_;
}

bool BackgroundWriter::last_failed() const {
  const base::MutexLock lock(&mutex_);
  return last_failed_;
}

Status BackgroundWriter::TakeFailureLocked() { return std::exchange(failure_, Status()); }

void BackgroundWriter::Run() {
  while (true) {
    const Snapshot* snapshot = nullptr;
    {
      base::MutexLock lock(&mutex_);
      while (!pending_.has_value() && !ending_) changed_.Wait(&lock);
      if (!pending_.has_value()) return;
      // Only this thread clears pending_, so that the snapshot stays where it is.
      snapshot = &*pending_;
    }
    Status status = write_(*snapshot);
    const base::MutexLock lock(&mutex_);
    if (status.ok()) durable_step_ = pending_->state.step;
    last_failed_ = !status.ok();
    failure_ = std::move(status);
    pending_.reset();
    changed_.NotifyAll();
  }
}

}  // namespace sinkforge::trainer
