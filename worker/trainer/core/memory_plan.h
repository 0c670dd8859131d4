// MemoryPlan: what one rank of a job allocates, by name, known before anything is allocated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "worker/trainer/core/config.h"

namespace sinkforge::trainer {

struct MemoryPlan {
  struct Entry {
    std::string name;
    std::string shape;  // such as "[2048, 768]"; empty for a workspace
    int64_t bytes = 0;
  };
  struct Group {
    std::string name;  // "parameters", "gradients", "optimizer state", "activations", "workspace"
    std::vector<Entry> entries;
    int64_t bytes = 0;  // with the gaps that align the tensors
  };
  std::vector<Group> groups;
  int64_t bytes() const;
};

// Of rank 0 of `ranks`, which has the largest share of the rows. `backend` only plans.
// kInvalidArgument: as Trainer::Create's.
kernels::Result<MemoryPlan> PlanMemory(const TrainingConfig& config, int64_t ranks,
                                       kernels::Backend* backend);

// The table for people: one line per name, where the layers' tensors of one name are one line.
std::string FormatMemoryPlan(const MemoryPlan& plan);

}  // namespace sinkforge::trainer
