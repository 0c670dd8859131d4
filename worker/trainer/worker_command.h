// `sinkforge-trainer worker`: one rank of a scheduled job, started by a worker daemon.
#pragma once

#include <memory>

#include "worker/trainer/outcome.h"
#include "worker/trainer/worker_link.h"

namespace sinkforge::trainer {

// From the assignment to the last report. `link` is new.
ExitCode RunAssignment(WorkerLink& link);

}  // namespace sinkforge::trainer
