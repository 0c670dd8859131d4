// Ask for the assignment, run it, say how it ended.
#include "worker/trainer/worker_command.h"

#include "base/log.h"
#include "worker/trainer/training_run.h"

namespace sinkforge::trainer {

namespace {

// Every later line says whose it is.
void SetContext(const v1::Assignment& assignment) {
  const v1::DesiredRank& rank = assignment.rank();
  base::SetLogContext({{"job", rank.job_id()},
                       {"attempt", int64_t{rank.attempt()}},
                       {"rank", int64_t{rank.rank()}},
                       {"worker", assignment.worker()},
                       {"trace_id", rank.trace_id()}});
}

}  // namespace

ExitCode RunAssignment(WorkerLink& link, const std::string& collective_host, int64_t slots) {
  const absl::StatusOr<v1::Assignment> assignment = link.Connect();
  if (link.abandoned()) return ExitCode::kAbandoned;
  if (!assignment.ok()) {
    base::LogError("the worker gives no assignment",
                   {{"error", std::string(assignment.status().message())}});
    return ExitCode::kOtherError;
  }
  SetContext(*assignment);
  base::LogInfo("the rank starts", {{"world_size", int64_t{assignment->rank().world_size()}},
                                    {"restored_step", assignment->rank().restore().step()}});
  RunRequest request;
  request.spec = assignment->rank().spec();
  request.data_roots.assign(assignment->data_roots().begin(), assignment->data_roots().end());
  request.rank = assignment->rank().rank();
  request.world_size = assignment->rank().world_size();
  request.skip_batches.assign(assignment->rank().skip_batches().begin(),
                              assignment->rank().skip_batches().end());
  request.collective_host = collective_host;
  request.read_memory = [slots](const kernels::Backend& backend) {
    return ReadFreeMemory(backend, slots);
  };
  const RunEnd end = RunJob(request, link);
  if (link.abandoned() || end.exit_code == ExitCode::kAbandoned) return ExitCode::kAbandoned;
  if (end.outcome == v1::RANK_OUTCOME_FAILED) {
    base::LogError("the rank failed",
                   {{"reason", v1::Reason_Name(end.reason)}, {"error", end.message}});
  } else {
    base::LogInfo("the rank ended", {{"outcome", v1::RankOutcome_Name(end.outcome)}});
  }
  if (!link.End(end)) base::LogError("the worker did not take the last report");
  return link.abandoned() ? ExitCode::kAbandoned : end.exit_code;
}

}  // namespace sinkforge::trainer
