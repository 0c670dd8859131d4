// LogStore: what trainers printed, in the order in which it arrived. One conformance suite
// (tests/unit/server) holds for every implementation.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/engine/job_store.h"
#include "sinkforge/v1/log_service.pb.h"

namespace sinkforge::server {

struct LogSelection {
  std::string job_id;
  std::optional<int64_t> attempt;  // absent: all
  std::optional<int32_t> rank;     // absent: all
};

// Thread-safe. Job ids are never empty and hold no zero byte; attempts, ranks and sequences are not
// negative. The lines of a job are numbered 1, 2, ... in the order of arrival; trimming does not
// renumber them.
class LogStore {
 public:
  virtual ~LogStore() = default;

  // Keeps what is new in the requests, in one write that survives power loss; a line whose
  // (job, attempt, rank, sequence) is known changes nothing. RESOURCE_EXHAUSTED: the disk is full.
  // UNAVAILABLE. Nothing of the group is kept then.
  virtual absl::Status Append(const std::vector<v1::AppendLogsRequest>& group) = 0;

  // The selected lines with a number above `after`, in order, until `visit` returns false.
  // DATA_LOSS names the line.
  virtual absl::Status Read(
      const LogSelection& selection, int64_t after,
      const std::function<bool(int64_t number, const v1::LogLine& line)>& visit) const = 0;
  // The number after which the last `lines` selected lines come; 0 where there are not more.
  virtual absl::StatusOr<int64_t> TailStart(const LogSelection& selection, int64_t lines) const = 0;

  // By job id; jobs without lines are left out.
  virtual std::vector<JobBytes> Bytes() const = 0;
  // Drops the job's lines from the oldest on until at least `bytes` are free or none is left.
  virtual absl::Status Trim(const std::string& job_id, int64_t bytes) = 0;
  virtual absl::Status DeleteJob(const std::string& job_id) = 0;
};

}  // namespace sinkforge::server
