// Starting a child process from a program with many threads: fork, then nothing but
// async-signal-safe calls, then exec.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinkforge::worker {

struct ChildCommand {
  std::vector<std::string> arguments;    // [0] is the program's path
  std::vector<std::string> environment;  // "NAME=value", the whole of it
};

struct Child {
  pid_t pid = 0;  // also the process group
  int stdout_fd = -1;
  int stderr_fd = -1;
};

// The child leads a process group of its own, reads from /dev/null, has default signal dispositions
// and an empty signal mask, works in "/", and is killed when the *thread* that called this ends (so
// that thread must wait for it). `before_exec` runs here once the pid is known; the child executes
// the program only after it returned OK, and is gone when this returns an error.
// UNAVAILABLE: no process or no file descriptors; NOT_FOUND: the program cannot be executed
// (named).
absl::StatusOr<Child> StartChild(const ChildCommand& command,
                                 const std::function<absl::Status(pid_t)>& before_exec);

// The environment of a trainer: of ours only what a program needs to run and to be watched, plus
// the number of threads, and no trainer's token. With `gpu` the trainer sees that GPU alone,
// counted among those that we see (CUDA_VISIBLE_DEVICES).
std::vector<std::string> CleanEnvironment(const char* const* environment, int threads,
                                          std::optional<int> gpu = std::nullopt);

}  // namespace sinkforge::worker
