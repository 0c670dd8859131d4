// make_collective: how the ranks of one attempt reach one another.
#pragma once

#include <memory>

#include "kernels/status.h"
#include "worker/trainer/core/collective.h"

namespace sinkforge::trainer {

struct CollectiveOptions {
  int rank = 0;
  int world_size = 1;
};

// kInvalidArgument: this build cannot run more than one rank.
kernels::Result<std::unique_ptr<Collective>> MakeCollective(const CollectiveOptions& options);

}  // namespace sinkforge::trainer
