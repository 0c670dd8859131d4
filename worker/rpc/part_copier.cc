// Copying parts from other workers; see part_copier.h.
#include "worker/rpc/part_copier.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "worker/rpc/part_transfer.h"

namespace sinkforge::worker {
namespace {

// Holders that may hang at the same time while the others are still read from: one less.
constexpr int kFetchesMax = 4;

}  // namespace

PartCopier::PartCopier(Parts parts) : parts_(std::move(parts)) {
  for (int i = 0; i < kFetchesMax; ++i) threads_.emplace_back([this] { Run(); });
}

PartCopier::~PartCopier() {
  SetWanted({});
  {
    const base::MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void PartCopier::SetWanted(std::vector<v1::CopyPart> wanted) {
  const base::MutexLock lock(&mutex_);
  wanted_ = std::move(wanted);
  // A holder that hangs is named no more once its lease is over: then this ends the wait for it.
  for (Fetch& fetch : fetches_) {
    if (!IsWantedLocked(fetch.copy)) fetch.context.TryCancel();
  }
  changed_.NotifyAll();
}

bool PartCopier::IsWantedLocked(const v1::CopyPart& copy) const {
  return std::any_of(wanted_.begin(), wanted_.end(), [&](const v1::CopyPart& wanted) {
    return KeyOf(wanted.part()) == KeyOf(copy.part()) && wanted.address() == copy.address();
  });
}

void PartCopier::Run() {
  while (Fetch* fetch = Next()) End(fetch, Copy(fetch));
}

PartCopier::Fetch* PartCopier::Next() {
  base::MutexLock lock(&mutex_);
  while (!stopping_) {
    if (Fetch* fetch = BeginLocked(); fetch != nullptr) return fetch;
    changed_.WaitFor(&lock, parts_.retry);
  }
  return nullptr;
}

PartCopier::Fetch* PartCopier::BeginLocked() {
  const std::chrono::nanoseconds now = parts_.clock->Read().monotonic;
  for (const v1::CopyPart& copy : wanted_) {
    if (!MayFetchLocked(copy, now)) continue;
    Fetch& fetch = fetches_.emplace_back();
    fetch.copy = copy;
    return &fetch;
  }
  return nullptr;
}

bool PartCopier::MayFetchLocked(const v1::CopyPart& copy, std::chrono::nanoseconds now) const {
  const PartKey key = KeyOf(copy.part());
  const bool is_busy = std::any_of(fetches_.begin(), fetches_.end(), [&](const Fetch& fetch) {
    return fetch.copy.address() == copy.address() || KeyOf(fetch.copy.part()) == key;
  });
  if (is_busy) return false;
  const auto resting = resting_.find({key, copy.address()});
  if (resting != resting_.end() && now < resting->second) return false;
  return !parts_.checkpoints->Find(key).ok();
}

absl::Status PartCopier::Copy(Fetch* fetch) {
  const v1::CheckpointPart& part = fetch->copy.part();
  auto writer = parts_.checkpoints->Begin(part);
  if (!writer.ok()) return writer.status();
  v1::ReadCheckpointRequest request;
  request.set_job_id(part.job_id());
  request.set_attempt(part.attempt());
  request.set_step(part.step());
  request.set_rank(part.rank());
  absl::Status added;
  const absl::Status fetched = FetchPart(
      {part.worker(), fetch->copy.address(), parts_.tls}, request,
      [&](const v1::CheckpointData& data) {
        added = (*writer)->Add(data);
        return added.ok();
      },
      &fetch->context);
  if (!added.ok()) return added;
  if (!fetched.ok()) return fetched;
  return (*writer)->Commit().status();
}

void PartCopier::End(Fetch* fetch, const absl::Status& copied) {
  const PartKey key = KeyOf(fetch->copy.part());
  if (copied.ok()) parts_.on_copied();
  const base::MutexLock lock(&mutex_);
  const std::chrono::nanoseconds now = parts_.clock->Read().monotonic;
  std::erase_if(resting_, [&](const auto& entry) { return entry.second <= now; });
  if (!copied.ok() && IsWantedLocked(fetch->copy)) {
    resting_[{key, fetch->copy.address()}] = now + parts_.retry;
    const std::string error(copied.message());
    if (failures_.Admit(ToString(key) + error, now).has_value()) {
      base::LogWarning("a checkpoint part could not be copied; it is tried again and again",
                       {{"part", ToString(key)}, {"error", error}});
    }
  }
  fetches_.remove_if([&](const Fetch& other) { return &other == fetch; });
  changed_.NotifyAll();  // its holder is free for the next one
}

}  // namespace sinkforge::worker
