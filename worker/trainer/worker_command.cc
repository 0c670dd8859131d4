// Ask for the assignment, run it, say how it ended.
#include "worker/trainer/worker_command.h"

#include <cstdio>

#include "worker/trainer/training_run.h"

namespace sinkforge::trainer {

ExitCode RunAssignment(WorkerLink& link, const std::string& collective_host) {
  const absl::StatusOr<v1::Assignment> assignment = link.Connect();
  if (link.abandoned()) return ExitCode::kAbandoned;
  if (!assignment.ok()) {
    std::fprintf(stderr, "error: the worker gives no assignment: %s\n",
                 std::string(assignment.status().message()).c_str());
    return ExitCode::kOtherError;
  }
  RunRequest request;
  request.spec = assignment->rank().spec();
  request.data_roots.assign(assignment->data_roots().begin(), assignment->data_roots().end());
  request.rank = assignment->rank().rank();
  request.world_size = assignment->rank().world_size();
  request.skip_batches.assign(assignment->rank().skip_batches().begin(),
                              assignment->rank().skip_batches().end());
  request.collective_host = collective_host;
  const RunEnd end = RunJob(request, link);
  if (link.abandoned() || end.exit_code == ExitCode::kAbandoned) return ExitCode::kAbandoned;
  if (end.outcome == v1::RANK_OUTCOME_FAILED) {
    std::fprintf(stderr, "error: %s\n", end.message.c_str());
  }
  if (!link.End(end)) std::fprintf(stderr, "error: the worker did not take the last report\n");
  return link.abandoned() ? ExitCode::kAbandoned : end.exit_code;
}

}  // namespace sinkforge::trainer
