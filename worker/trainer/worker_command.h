// `sinkforge-trainer worker`: one rank of a scheduled job, started by a worker daemon.
#pragma once

#include <cstdint>
#include <string>

#include "worker/trainer/outcome.h"
#include "worker/trainer/worker_link.h"

namespace sinkforge::trainer {

// From the assignment to the last report. `link` is new. Ranks on other machines reach this one at
// `collective_host`, which is an address of this machine. `slots` of the worker share its memory.
ExitCode RunAssignment(WorkerLink& link, const std::string& collective_host, int64_t slots);

}  // namespace sinkforge::trainer
