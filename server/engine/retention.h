// Retention: keeps history, events and logs within their budgets, and deletes what belongs to jobs
// that no longer exist.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/engine/engine.h"
#include "server/engine/history_store.h"
#include "server/engine/job_store.h"
#include "server/engine/log_store.h"

namespace sinkforge::server {

// What one job takes, and whether it may be given up as a whole.
struct JobUse {
  std::string job_id;
  int64_t bytes = 0;
  bool is_finished = false;
  int64_t end_seconds = 0;  // finished jobs: when
};

struct Trim {
  std::string job_id;
  int64_t bytes = 0;  // at least so many, from the oldest on
  bool is_whole = false;
};

// Nothing while all uses together are within the budget. Else down to nine tenths of it, so that
// not every pass trims: whole finished jobs, the one that ended first first, then the oldest part
// of unfinished ones in proportion to what they take. Pure.
std::vector<Trim> DecideTrims(std::vector<JobUse> uses, int64_t budget_bytes);

struct RetentionOptions {
  int64_t history_bytes = int64_t{4} << 30;  // step records and events together
  int64_t log_bytes = int64_t{1} << 30;
};

// One thread at a time.
class Retention {
 public:
  // All outlive it.
  Retention(const RetentionOptions& options, Engine* engine, JobStore* jobs, HistoryStore* history,
            LogStore* logs)
      : options_(options), engine_(engine), jobs_(jobs), history_(history), logs_(logs) {}

  // One pass. UNAVAILABLE, RESOURCE_EXHAUSTED: the next pass does what this one could not.
  absl::Status Pass();

 private:
  absl::Status LookUp(std::vector<JobBytes> all, std::vector<JobUse>* uses,
                      std::vector<std::string>* gone) const;
  absl::Status TrimHistory(const Trim& trim);
  absl::Status TrimLogs(const Trim& trim);

  const RetentionOptions options_;
  Engine* const engine_;
  JobStore* const jobs_;
  HistoryStore* const history_;
  LogStore* const logs_;
};

}  // namespace sinkforge::server
