// Exit codes: the one place that turns errors and job states into them.
#include "client/exit_code.h"

#include "absl/strings/cord.h"

namespace sinkforge::client {
namespace {

// Payloads mark the two errors that have a code of their own but share a canonical status code with
// errors that have not.
constexpr char kUsageMark[] = "sinkforge.client/usage";
constexpr char kUnreachableMark[] = "sinkforge.client/unreachable";

absl::Status Marked(absl::Status status, const char* mark) {
  status.SetPayload(mark, absl::Cord("1"));
  return status;
}

}  // namespace

std::string ExitCodeHelp() {
  return "Exit codes: 0 done; 1 error; 2 wrong usage or job file; 3 not found; 4 no coordinator\n"
         "answers. `wait` and --watch: 0 succeeded, 10 failed, 11 cancelled, 12 paused, 130\n"
         "interrupted (the job goes on).";
}

absl::Status UsageError(const std::string& message) {
  return Marked(absl::InvalidArgumentError(message), kUsageMark);
}

absl::Status AsUsageError(const absl::Status& status) { return Marked(status, kUsageMark); }

absl::Status UnreachableError(const std::string& message) {
  return Marked(absl::UnavailableError(message), kUnreachableMark);
}

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  if (status.GetPayload(kUsageMark).has_value()) return kExitUsage;
  if (status.GetPayload(kUnreachableMark).has_value()) return kExitUnreachable;
  if (absl::IsNotFound(status)) return kExitNotFound;
  if (absl::IsCancelled(status)) return kExitInterrupted;
  return kExitError;
}

int ExitCodeOf(v1::JobState state) {
  switch (state) {
    case v1::JOB_STATE_FAILED:
      return kExitJobFailed;
    case v1::JOB_STATE_CANCELLED:
      return kExitJobCancelled;
    case v1::JOB_STATE_PAUSED:
      return kExitJobPaused;
    default:
      return kExitOk;
  }
}

bool IsFinal(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

bool IsSettled(v1::JobState state) { return IsFinal(state) || state == v1::JOB_STATE_PAUSED; }

}  // namespace sinkforge::client
