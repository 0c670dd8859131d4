// The one table from status to reason to exit code.
#include "worker/trainer/outcome.h"

namespace sinkforge::trainer {

using kernels::StatusCode;

ExitCode ExitCodeOf(v1::Reason reason) {
  switch (reason) {
    case v1::REASON_COMPLETED:
      return ExitCode::kCompleted;
    case v1::REASON_BAD_JOB:
      return ExitCode::kBadJob;
    case v1::REASON_BAD_DATA:
      return ExitCode::kBadData;
    case v1::REASON_NON_FINITE_LOSS:
    case v1::REASON_LOSS_SPIKE:
      return ExitCode::kNonFiniteLoss;
    case v1::REASON_CHECKPOINT_FAILED:
    case v1::REASON_CHECKPOINT_LOST:
      return ExitCode::kCheckpointFailed;
    case v1::REASON_RANK_LOST:
      return ExitCode::kRankLost;
    default:
      return ExitCode::kOtherError;
  }
}

ExitCode ExitCodeOfModelCommand(StatusCode code) {
  switch (code) {
    case StatusCode::kInvalidArgument:
      return ExitCode::kUsage;
    case StatusCode::kNonFinite:
      return ExitCode::kNonFiniteLoss;
    case StatusCode::kResourceExhausted:
      return ExitCode::kOtherError;
    default:
      return ExitCode::kBadData;
  }
}

v1::Reason ReasonOf(RunStage stage, StatusCode code) {
  // Whatever is being done, these mean one thing.
  if (code == StatusCode::kNonFinite) return v1::REASON_NON_FINITE_LOSS;
  if (code == StatusCode::kDiverged) return v1::REASON_LOSS_SPIKE;
  if (code == StatusCode::kInternal) return v1::REASON_TRAINER_CRASHED;
  switch (stage) {
    case RunStage::kJob:
    case RunStage::kModel:
      return v1::REASON_BAD_JOB;
    case RunStage::kDevice:
      // Of this machine or this build: the job may be right elsewhere.
      return v1::REASON_TRAINER_CRASHED;
    case RunStage::kConnect:
      return code == StatusCode::kUnavailable ? v1::REASON_RANK_LOST : v1::REASON_BAD_JOB;
    case RunStage::kData:
      return v1::REASON_BAD_DATA;
    case RunStage::kRestore:
      if (code == StatusCode::kInvalidData) return v1::REASON_BAD_DATA;
      if (code == StatusCode::kInvalidArgument) return v1::REASON_BAD_JOB;
      if (code == StatusCode::kUnavailable) return v1::REASON_WORKER_LOST;
      if (code == StatusCode::kFailedPrecondition) return v1::REASON_CHECKPOINT_FAILED;
      return v1::REASON_CHECKPOINT_LOST;
    case RunStage::kTraining:
      return code == StatusCode::kUnavailable ? v1::REASON_RANK_LOST : v1::REASON_CHECKPOINT_FAILED;
  }
  return v1::REASON_TRAINER_CRASHED;
}

RunEnd FailedRun(v1::Reason reason, const std::string& message) {
  return {ExitCodeOf(reason), v1::RANK_OUTCOME_FAILED, reason, message};
}

RunEnd FailedRun(RunStage stage, const kernels::Status& status) {
  RunEnd end = FailedRun(ReasonOf(stage, status.code()), status.message());
  // To the coordinator it is a crash, to be tried elsewhere; whoever looks here sees the GPU.
  if (stage == RunStage::kDevice) end.exit_code = ExitCode::kDeviceFailed;
  return end;
}

}  // namespace sinkforge::trainer
