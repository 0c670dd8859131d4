// JobStore: where the engine keeps jobs, their events, the job counter and users' settings. One
// conformance suite (tests/unit/server) holds for every implementation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/state/coordinator.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server {

struct StoredJobs {
  std::vector<v1::Job> jobs;
  int64_t next_job_number = 1;
  std::vector<v1::Namespace> namespaces;
  std::vector<v1::WorkerDrain> drains;
};

// What one job takes of a budget.
struct JobBytes {
  std::string job_id;
  int64_t bytes = 0;
};

// Thread-safe; the engine alone writes jobs. Job ids are never empty and hold no zero byte.
class JobStore {
 public:
  virtual ~JobStore() = default;

  // DATA_LOSS: a record that cannot be read; the message names it. UNAVAILABLE.
  virtual absl::StatusOr<StoredJobs> Load() const = 0;
  // All of it or nothing; survives power loss when it returns OK. Deletions come last.
  // RESOURCE_EXHAUSTED: the disk is full. UNAVAILABLE.
  virtual absl::Status Write(const Effects& effects) = 0;
  // Tries a write of a few bytes, which changes nothing of the above and is not synced. The errors
  // of Write.
  virtual absl::Status CheckWritable() = 0;
  // Oldest first, at most `limit`. Empty for an unknown job.
  virtual absl::StatusOr<std::vector<v1::Event>> ListEvents(const std::string& job_id,
                                                            int64_t after_sequence,
                                                            int limit) const = 0;

  // Of the events, by job id; jobs without events are left out.
  virtual std::vector<JobBytes> EventBytes() const = 0;
  // Drops the job's events from the oldest on until at least `bytes` are free or none is left.
  virtual absl::Status TrimEvents(const std::string& job_id, int64_t bytes) = 0;
};

}  // namespace sinkforge::server
