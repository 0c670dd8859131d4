// RunEnd: how a trainer's run ended, for the worker, the coordinator, a shell and a person.
//
// Exit codes of `sinkforge-trainer`:
//   0 completed                10 stopped as asked, after a durable checkpoint
//   2 wrong command line       11 abandoned: the attempt is over, nothing more was written
//  20 bad job                  21 bad data               22 the loss is not finite
//  23 a checkpoint could not be written or restored      24 another error
//  25 another rank was lost   26 no GPU can be used, or one or its libraries failed; the
//                                last line on stderr says how
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/status.h"
#include "sinkforge/v1/job.pb.h"
#include "sinkforge/v1/worker_service.pb.h"

namespace sinkforge::trainer {

enum class ExitCode {
  kCompleted = 0,
  kUsage = 2,
  kStopped = 10,
  kAbandoned = 11,
  kBadJob = 20,
  kBadData = 21,
  kNonFiniteLoss = 22,
  kCheckpointFailed = 23,
  kOtherError = 24,
  kRankLost = 25,
  kDeviceFailed = kernels::kDeviceFailureExitCode,
};

struct RunEnd {
  ExitCode exit_code = ExitCode::kCompleted;
  v1::RankOutcome outcome = v1::RANK_OUTCOME_COMPLETED;
  v1::Reason reason = v1::REASON_UNSPECIFIED;  // with FAILED
  std::string message;                         // with FAILED: the thing and the next step
  // Where training failed: the step of the last good checkpoint, 0 for none. A coordinator knows
  // it and says so itself.
  std::optional<int64_t> durable_step = std::nullopt;
};

// A failed run with the reason's exit code.
RunEnd FailedRun(v1::Reason reason, const std::string& message);

ExitCode ExitCodeOf(v1::Reason reason);

// Of a command that runs a trained model rather than training one: sample, evaluate.
ExitCode ExitCodeOfModelCommand(kernels::StatusCode code);

// What is being done when a status arises: the same code means another thing while restoring.
enum class RunStage { kJob, kDevice, kConnect, kData, kModel, kRestore, kTraining };

v1::Reason ReasonOf(RunStage stage, kernels::StatusCode code);

// A run that failed before its first step.
RunEnd FailedRun(RunStage stage, const kernels::Status& status);

}  // namespace sinkforge::trainer
