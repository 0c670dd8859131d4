// AskChild: a program that is started with a question, and heard until it ends.
#pragma once

#include <chrono>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "worker/process/child_process.h"

namespace sinkforge::worker {

struct ChildAnswer {
  int exit_code = 0;  // or minus the signal that ended it
  std::string out;    // of each the first MiB
  std::string err;
};

// Waits for it. The program and what it started in its group are gone when this returns, but for
// one that not even SIGKILL ends.
// DEADLINE_EXCEEDED: it did not end within `limit`; else StartChild's errors.
absl::StatusOr<ChildAnswer> AskChild(const ChildCommand& command, std::chrono::nanoseconds limit,
                                     const base::Clock& clock);

}  // namespace sinkforge::worker
