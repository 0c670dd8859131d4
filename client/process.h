// Processes of this machine that outlive the program which started them: starting, recognising and
// ending them. A process is recognised by pid, start time and boot, so that another one that got
// the same pid later is never touched.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinkforge::client {

struct ProcessIdentity {
  int pid = 0;
  int64_t start_ticks = 0;  // since boot
  std::string boot_id;
};

struct SpawnOptions {
  std::string program;  // absolute
  std::vector<std::string> arguments;
  std::string log_file;  // stdout and stderr are appended to it
  std::string working_folder;
};

// In a session of its own, detached from the terminal, with no file of ours open. NOT_FOUND names
// the program.
absl::StatusOr<ProcessIdentity> Spawn(const SpawnOptions& options);

// False for a zombie.
bool IsRunning(const ProcessIdentity& process);

// Waits until it has ended; false: still running after `timeout`.
bool WaitForExit(const ProcessIdentity& process, std::chrono::nanoseconds timeout);

enum class EndResult { kNotRunning, kEnded, kKilled };

// SIGTERM, then after `grace` SIGKILL; then whatever is left of its session is killed too. Returns
// when all of it is gone. DEADLINE_EXCEEDED: something cannot be killed (stuck in the kernel);
// PERMISSION_DENIED: it belongs to another user.
absl::StatusOr<EndResult> EndProcess(const ProcessIdentity& process,
                                     std::chrono::nanoseconds grace);

// The last lines of a file, for messages; empty where it cannot be read.
std::string TailOfFile(const std::string& path, int lines);

// True where something listens on 127.0.0.1:port already.
bool IsPortTaken(int port);

}  // namespace sinkforge::client
