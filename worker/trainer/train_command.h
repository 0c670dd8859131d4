// `sinkforge-trainer train`: the standalone mode.
#pragma once

#include <string>
#include <vector>

#include "worker/trainer/make_backend.h"
#include "worker/trainer/outcome.h"

namespace sinkforge::trainer {

struct TrainCommand {
  std::string job;                      // path of the job file
  std::string work_dir;                 // may be empty for explain_memory
  std::vector<std::string> data_roots;  // empty: the job file's folder
  std::vector<std::string> overrides;   // --set
  bool resume = false;
  bool explain_memory = false;  // only print the plan
  int64_t dump_step = 0;
  BackendChoice backend = BackendChoice::kFast;
};

// Prints errors to stderr.
ExitCode RunTrainCommand(const TrainCommand& command);

}  // namespace sinkforge::trainer
