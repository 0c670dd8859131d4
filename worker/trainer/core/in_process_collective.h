// InProcessCollective: ranks that are threads of one process. It shows what the core does with
// several ranks without a network, so the tests use it.
#pragma once

#include <memory>
#include <vector>

#include "worker/trainer/core/collective.h"

namespace sinkforge::trainer {

// One collective per rank, each to be used by one thread. Destroying one before the others are done
// is the loss of a rank: what waits, and every later operation, returns kUnavailable.
std::vector<std::unique_ptr<Collective>> MakeInProcessCollectives(int world_size);

}  // namespace sinkforge::trainer
