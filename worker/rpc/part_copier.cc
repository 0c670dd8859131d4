// Copying parts from other workers; see part_copier.h.
#include "worker/rpc/part_copier.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/log.h"
#include "worker/rpc/part_transfer.h"

namespace sinkforge::worker {

PartCopier::PartCopier(Parts parts) : parts_(std::move(parts)), thread_([this] { Run(); }) {}

PartCopier::~PartCopier() {
  SetWanted({});
  {
    const base::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wakeup_.Notify();
  thread_.join();
}

void PartCopier::SetWanted(std::vector<v1::CopyPart> wanted) {
  {
    const base::MutexLock lock(&mutex_);
    wanted_ = std::move(wanted);
    // A holder that hangs is named no more once its lease is over: then this ends the wait for it.
    if (call_ != nullptr && !IsWantedLocked(current_)) call_->TryCancel();
  }
  wakeup_.Notify();
}

std::vector<v1::CopyPart> PartCopier::Wanted() const {
  const base::MutexLock lock(&mutex_);
  return wanted_;
}

bool PartCopier::IsWantedLocked(const v1::CopyPart& copy) const {
  return std::any_of(wanted_.begin(), wanted_.end(), [&](const v1::CopyPart& wanted) {
    return KeyOf(wanted.part()) == KeyOf(copy.part()) && wanted.address() == copy.address();
  });
}

bool PartCopier::IsWanted(const v1::CopyPart& copy) const {
  const base::MutexLock lock(&mutex_);
  return IsWantedLocked(copy);
}

void PartCopier::Run() {
  while (true) {
    {
      const base::MutexLock lock(&mutex_);
      if (stopping_) return;
    }
    for (const v1::CopyPart& copy : Wanted()) {
      const PartKey key = KeyOf(copy.part());
      if (parts_.checkpoints->Find(key).ok() || !IsWanted(copy)) continue;
      const absl::Status copied = Copy(copy);
      if (copied.ok()) {
        base::LogInfo("a checkpoint part was copied from another worker",
                      {{"part", ToString(key)}, {"holder", copy.part().worker()}});
        parts_.on_copied();
      } else if (IsWanted(copy)) {
        base::LogWarning("a checkpoint part could not be copied; tried again later",
                         {{"part", ToString(key)}, {"error", std::string(copied.message())}});
      }
    }
    wakeup_.Wait(parts_.retry);
  }
}

absl::Status PartCopier::Copy(const v1::CopyPart& copy) {
  const PartKey key = KeyOf(copy.part());
  auto writer = parts_.checkpoints->Begin(copy.part());
  if (!writer.ok()) return writer.status();
  v1::ReadCheckpointRequest request;
  request.set_job_id(key.job_id);
  request.set_attempt(key.attempt);
  request.set_step(key.step);
  request.set_rank(key.rank);
  grpc::ClientContext context;
  {
    const base::MutexLock lock(&mutex_);
    if (!IsWantedLocked(copy)) return absl::CancelledError("no longer wanted");
    current_ = copy;
    call_ = &context;
  }
  absl::Status added;
  const absl::Status fetched = FetchPart(
      copy.part().worker(), copy.address(), request,
      [&](const v1::CheckpointData& data) {
        added = (*writer)->Add(data);
        return added.ok();
      },
      &context);
  {
    const base::MutexLock lock(&mutex_);
    call_ = nullptr;
  }
  if (!added.ok()) return added;
  if (!fetched.ok()) return fetched;
  return (*writer)->Commit().status();
}

}  // namespace sinkforge::worker
