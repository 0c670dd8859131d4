// When a failed attempt is tried again, and after how long: a pure policy.
#pragma once

#include <chrono>

#include "server/state/coordinator.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server {

enum class FaultKind {
  kInfrastructure,  // the machines' fault: many retries, the first at once
  kCrash,           // the trainer's: a few
  kNoProgress,      // it hung: fewer, because each costs a long time-out
  kBadBatch,        // a batch's: goes on without it
  kUnfitWorker,     // a worker's: others may have the data, or the room, that it lacks
  kFatal,           // would fail the same way again: none
};

constexpr FaultKind KindOf(v1::Reason reason) {
  switch (reason) {
    case v1::REASON_WORKER_LOST:
    case v1::REASON_WORKER_DRAINING:
    case v1::REASON_RANK_LOST:
    case v1::REASON_CHECKPOINT_LOST:
      return FaultKind::kInfrastructure;
    case v1::REASON_NO_PROGRESS:
    case v1::REASON_START_TIMEOUT:
      return FaultKind::kNoProgress;
    case v1::REASON_BAD_DATA:
    case v1::REASON_CHECKPOINT_FAILED:
      return FaultKind::kUnfitWorker;
    case v1::REASON_BAD_JOB:
    case v1::REASON_NON_FINITE_LOSS:
    case v1::REASON_LOSS_SPIKE:
      return FaultKind::kFatal;
    default:
      return FaultKind::kCrash;
  }
}

// What the job's user made of it.
inline FaultKind KindOf(v1::Reason reason, const v1::JobSpec& spec) {
  const bool bad_batch = reason == v1::REASON_NON_FINITE_LOSS || reason == v1::REASON_LOSS_SPIKE;
  if (bad_batch && spec.train().bad_batches() == v1::BAD_BATCHES_SKIP) return FaultKind::kBadBatch;
  return KindOf(reason);
}

static_assert(KindOf(v1::REASON_TRAINER_CRASHED) == FaultKind::kCrash);

struct RetryDecision {
  bool retry = false;
  int failures = 0;  // of the kind, this one counted
  int budget = 0;
  std::chrono::nanoseconds delay{0};
};

// `counts` are the failures so far without this one; the failure is added to them.
RetryDecision CountFailure(FaultKind kind, const CoordinatorOptions& options,
                           v1::RetryCounts* counts);

}  // namespace sinkforge::server
