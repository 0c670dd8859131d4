// Exit codes of `sinkforge`, as its help documents them, and how an error becomes one.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::client {

enum ExitCode : int {
  kExitOk = 0,
  kExitError = 1,
  kExitUsage = 2,        // the command line or the job file is wrong; nothing was done
  kExitNotFound = 3,     // the job, checkpoint, sweep or file does not exist
  kExitUnreachable = 4,  // no coordinator answers
  kExitJobFailed = 10,
  kExitJobCancelled = 11,
  kExitJobPaused = 12,
  kExitInterrupted = 130,  // Ctrl-C: the job goes on
};

// What the help prints.
std::string ExitCodeHelp();

// The user asked for something that cannot be; the message says what to write instead.
absl::Status UsageError(const std::string& message);
// The same where the coordinator has refused a request as invalid; its details stay.
absl::Status AsUsageError(const absl::Status& status);
// No coordinator answers; the message names the address and the next step.
absl::Status UnreachableError(const std::string& message);

int ExitCodeOf(const absl::Status& status);
// Of a job that is final or paused.
int ExitCodeOf(v1::JobState state);

bool IsFinal(v1::JobState state);
// Final or paused: nothing more happens without a user.
bool IsSettled(v1::JobState state);

}  // namespace sinkforge::client
