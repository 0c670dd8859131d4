// RunJob: one rank's run from the resolved job to its end, the same for both modes: data, model,
// restore, train. Everything that can go wrong ends here as a RunEnd that names it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sinkforge/v1/job.pb.h"
#include "worker/trainer/data_files.h"
#include "worker/trainer/free_memory.h"
#include "worker/trainer/make_backend.h"
#include "worker/trainer/outcome.h"
#include "worker/trainer/run_host.h"

namespace sinkforge::trainer {

struct RunRequest {
  v1::JobSpec spec;  // resolved
  std::vector<std::string> data_roots;
  std::string root_advice = kWorkerRootAdvice;  // see DataLocation
  int rank = 0;
  int world_size = 1;
  std::vector<int64_t> skip_batches;          // TrainingConfig's
  std::string collective_host = "127.0.0.1";  // where other ranks reach this one
  BackendChoice backend = BackendChoice::kFast;
  // For train.micro_batch: auto; asked before the rank allocates anything.
  std::function<kernels::Result<FreeMemory>(const kernels::Backend&)> read_memory =
      [](const kernels::Backend& of) { return ReadFreeMemory(of, 1); };
};

// Validates the spec again: a worker takes it from the wire.
RunEnd RunJob(const RunRequest& request, RunHost& host);

}  // namespace sinkforge::trainer
