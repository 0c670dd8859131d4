// FollowJob: shows one job's progress until it is settled. Shared by `watch` and `submit --watch`.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/session.h"
#include "client/stop_signal.h"

namespace sinkforge::client {

struct FollowOptions {
  std::string job_id;
  int64_t after_step = -1;  // -o json: step records after this step too; -1: none
};

// Returns the exit code that the job's end, or Ctrl-C, gives.
absl::StatusOr<int> FollowJob(Session& session, StopSignal* stop, const FollowOptions& options);

// Why a job that did not succeed ended, and what to do next, on stderr.
void ExplainEnd(const Session& session, const v1::Job& job);

}  // namespace sinkforge::client
