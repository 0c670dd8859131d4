// LogSpool: log lines that the coordinator has not acknowledged yet, within a budget of bytes. Over
// the budget the oldest lines of the longest stream are dropped, and one line in their place says
// how many.
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
#include "sinkforge/v1/log_service.pb.h"
#include "worker/keys.h"
#include "worker/store/step_spool.h"

namespace sinkforge::worker {

struct LogSpoolOptions {
  int64_t bytes_max = 256 << 20;
  std::function<void()> on_news;            // after every append, without a lock
  std::function<void(int64_t)> on_dropped;  // lines; with the lock held
};

// Thread-safe. Next and Acknowledge are for one thread, the uplink's.
class LogSpool {
 public:
  static absl::StatusOr<std::unique_ptr<LogSpool>> Open(base::KvStore* store,
                                                        LogSpoolOptions options);

  // Lines of one rank, with growing sequences. Lines that the disk refuses are counted as dropped.
  void Append(const RankKey& rank, const std::vector<v1::LogLine>& lines) EXCLUDES_LOCK(mutex_);

  std::vector<std::string> Jobs() const EXCLUDES_LOCK(mutex_);
  // The oldest lines of each rank of the job; at most a message's worth. Until they are
  // acknowledged, or Next is called again, these lines are not dropped.
  absl::StatusOr<v1::AppendLogsRequest> Next(const std::string& job_id) EXCLUDES_LOCK(mutex_);
  absl::Status Acknowledge(const v1::AppendLogsRequest& request) EXCLUDES_LOCK(mutex_);

  // Takes over the lines of a damaged database; some may be known to the coordinator, which is no
  // harm. Returns how many there were. UNAVAILABLE, RESOURCE_EXHAUSTED.
  absl::StatusOr<int64_t> Salvage(base::KvWreck* wreck) EXCLUDES_LOCK(mutex_);

  SpoolSize size() const EXCLUDES_LOCK(mutex_);

 private:
  // The lines of one rank.
  struct Stream {
    SpoolSize size;
    int64_t from = 0;       // no line before this sequence
    int64_t in_flight = 0;  // lines up to this sequence were handed out by Next
    int64_t note = 0;       // sequence of the line that says how many were dropped
    int64_t dropped = 0;    // in all
    int64_t refused = 0;    // sequence of the last line that the disk refused
  };
  LogSpool(base::KvStore* store, LogSpoolOptions options);
  absl::Status LoadLocked() REQUIRES_LOCK(mutex_);
  void DropOldestLocked() REQUIRES_LOCK(mutex_);
  // Drops lines of one stream that make up at least `bytes`, if it has so many.
  void DropFromLocked(const RankKey& rank, int64_t bytes, Stream* stream) REQUIRES_LOCK(mutex_);
  v1::LogLine NoteLocked(const RankKey& rank, int64_t sequence, const Stream& stream) const
      REQUIRES_LOCK(mutex_);

  base::KvStore* const store_;
  const LogSpoolOptions options_;
  mutable base::Mutex mutex_;
  std::map<RankKey, Stream> streams_ GUARDED_BY(mutex_);
  int64_t bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace sinkforge::worker
