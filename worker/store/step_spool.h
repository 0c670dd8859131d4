// StepSpool: step records and attempt starts that the coordinator has not acknowledged yet. Nothing
// here is ever dropped but by an acknowledgement.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/kv_store.h"
#include "base/kv_store_wreck.h"
#include "base/mutex.h"
#include "sinkforge/v1/metrics.pb.h"

namespace sinkforge::worker {

struct SpoolSize {
  int64_t records = 0;
  int64_t bytes = 0;
};

// Thread-safe. Next and Acknowledge are for one thread, the uplink's.
class StepSpool {
 public:
  // `on_news` is called after every append, without a lock.
  static absl::StatusOr<std::unique_ptr<StepSpool>> Open(base::KvStore* store,
                                                         std::function<void()> on_news);

  // The records survive kill -9 when it returns. Appending a record again changes nothing.
  // INVALID_ARGUMENT: an impossible job, attempt or step. RESOURCE_EXHAUSTED, UNAVAILABLE: nothing
  // was kept; try again.
  absl::Status Append(const std::string& job_id, const std::vector<v1::StepRecord>& steps,
                      const v1::AttemptStart* start) EXCLUDES_LOCK(mutex_);

  std::vector<std::string> Jobs() const EXCLUDES_LOCK(mutex_);
  // The oldest records of the job, of one attempt, in order; at most a message's worth. Without
  // steps and starts: nothing is left.
  absl::StatusOr<v1::ReportStepsRequest> Next(const std::string& job_id) EXCLUDES_LOCK(mutex_);
  // Removes exactly what the request holds.
  absl::Status Acknowledge(const v1::ReportStepsRequest& request) EXCLUDES_LOCK(mutex_);

  // Takes over the records of a damaged database; some may be known to the coordinator, which is
  // no harm. Returns how many there were. UNAVAILABLE, RESOURCE_EXHAUSTED.
  absl::StatusOr<int64_t> Salvage(base::KvWreck* wreck) EXCLUDES_LOCK(mutex_);

  SpoolSize size() const EXCLUDES_LOCK(mutex_);

 private:
  struct Job {
    SpoolSize size;
    // Every record of the job is at or after this key: a scan from there does not wade through what
    // was deleted before it.
    std::string from;
    std::string read_from;  // `from` when Next last read
  };
  StepSpool(base::KvStore* store, std::function<void()> on_news);
  absl::Status LoadLocked() REQUIRES_LOCK(mutex_);

  base::KvStore* const store_;
  const std::function<void()> on_news_;
  mutable base::Mutex mutex_;
  std::map<std::string, Job> jobs_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::worker
