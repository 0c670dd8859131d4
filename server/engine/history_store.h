// HistoryStore: every step record of every job, and where each attempt began. One conformance suite
// (tests/unit/server) holds for every implementation.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/engine/job_store.h"
#include "sinkforge/v1/metrics.pb.h"

namespace sinkforge::server {

// Which records a reader wants. Without `attempt`: the curve as it counts, where a record of
// attempt a at step s counts if and only if s <= restored_step(a') for every later attempt a', and
// each step has one record at most.
struct StepRange {
  std::string job_id;
  int64_t first_step = 0;                                   // inclusive
  int64_t last_step = std::numeric_limits<int64_t>::max();  // inclusive
  std::optional<int64_t> attempt;  // only this attempt's records, all of them
};

// The first and the last step of a range that have a record; both 0 where none has.
struct StepExtent {
  int64_t first = 0;
  int64_t last = 0;
};

// Thread-safe. Job ids are never empty and hold no zero byte; steps and attempts are not negative.
class HistoryStore {
 public:
  virtual ~HistoryStore() = default;

  // Keeps what is new in the reports, in one write that survives power loss; a record whose
  // (job, attempt, step), or an attempt start whose (job, attempt), is known changes nothing.
  // RESOURCE_EXHAUSTED: the disk is full. UNAVAILABLE. Nothing of the group is kept then.
  virtual absl::Status Append(const std::vector<v1::ReportStepsRequest>& group) = 0;

  // In the order of steps until `visit` returns false. DATA_LOSS names the record.
  virtual absl::Status Read(const StepRange& range,
                            const std::function<bool(const v1::StepRecord&)>& visit) const = 0;
  virtual absl::StatusOr<StepExtent> Extent(const StepRange& range) const = 0;
  // In the order of attempts.
  virtual absl::StatusOr<std::vector<v1::AttemptStart>> Starts(const std::string& job_id) const = 0;

  // By job id; jobs without records are left out.
  virtual std::vector<JobBytes> Bytes() const = 0;
  // Drops the job's records from the lowest step on until at least `bytes` are free or none is
  // left.
  virtual absl::Status Trim(const std::string& job_id, int64_t bytes) = 0;
  virtual absl::Status DeleteJob(const std::string& job_id) = 0;
};

}  // namespace sinkforge::server
