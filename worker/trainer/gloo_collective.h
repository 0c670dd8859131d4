// GlooCollective: ranks in processes, on one machine or several, over TCP (not encrypted).
#pragma once

#include <memory>

#include "kernels/status.h"
#include "worker/trainer/core/collective.h"
#include "worker/trainer/make_collective.h"

namespace sinkforge::trainer {

// Connects to every other rank. kUnavailable: not all of them came, or one cannot be reached.
// From then on the process ignores SIGPIPE, so that a lost rank is an error and not its end.
kernels::Result<std::unique_ptr<Collective>> MakeGlooCollective(const CollectiveOptions& options,
                                                                RendezvousStore* store);

}  // namespace sinkforge::trainer
