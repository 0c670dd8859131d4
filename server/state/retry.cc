// The retry policy; see retry.h.
#include "server/state/retry.h"

#include <algorithm>

namespace sinkforge::server {
namespace {

// first * 2^doublings, at most `max`.
std::chrono::nanoseconds Backoff(int doublings, std::chrono::nanoseconds first,
                                 std::chrono::nanoseconds max) {
  std::chrono::nanoseconds delay = first;
  for (int i = 0; i < doublings && delay < max; ++i) delay *= 2;
  return std::min(delay, max);
}

}  // namespace

RetryDecision CountFailure(FaultKind kind, const CoordinatorOptions& options,
                           v1::RetryCounts* counts) {
  RetryDecision decision;
  switch (kind) {
    case FaultKind::kInfrastructure:
      counts->set_infrastructure(counts->infrastructure() + 1);
      decision.failures = counts->infrastructure();
      decision.budget = options.infrastructure_retries;
      if (decision.failures > 1) {
        decision.delay = Backoff(decision.failures - 2, options.backoff_first, options.backoff_max);
      }
      break;
    case FaultKind::kCrash:
      counts->set_crash(counts->crash() + 1);
      decision.failures = counts->crash();
      decision.budget = options.crash_retries;
      decision.delay = Backoff(decision.failures - 1, options.backoff_first, options.backoff_max);
      break;
    case FaultKind::kNoProgress:
      counts->set_no_progress(counts->no_progress() + 1);
      decision.failures = counts->no_progress();
      decision.budget = options.no_progress_retries;
      decision.delay = Backoff(decision.failures - 1, options.backoff_first, options.backoff_max);
      break;
    case FaultKind::kBadBatch:
      // At once: the next attempt does not see the batch.
      counts->set_bad_batch(counts->bad_batch() + 1);
      decision.failures = counts->bad_batch();
      decision.budget = options.bad_batch_retries;
      break;
    case FaultKind::kUnfitWorker:
      counts->set_unfit_worker(counts->unfit_worker() + 1);
      decision.failures = counts->unfit_worker();
      decision.budget = options.unfit_worker_retries;
      break;
    case FaultKind::kFatal:
      return decision;
  }
  decision.retry = decision.failures <= decision.budget;
  return decision;
}

}  // namespace sinkforge::server
