// What the agent and whoever runs trainer processes tell one another: a launch, and a trainer's
// end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "worker/keys.h"

namespace sinkforge::worker {

struct LaunchRequest {
  RankKey key;
  std::string token;
  int32_t threads = 1;  // CPU threads of the trainer
  // The one that it may use, counted among the worker's; none on a CPU.
  std::optional<int32_t> gpu = std::nullopt;
};

// How a trainer process ended.
struct TrainerExit {
  enum class How {
    kExited,      // `code` is the exit code
    kSignaled,    // `code` is the signal
    kNotStarted,  // `failure` says why
  };
  How how = How::kExited;
  int code = 0;
  std::string failure;
  std::vector<std::string> stderr_tail;  // its last lines, oldest first
};

}  // namespace sinkforge::worker
