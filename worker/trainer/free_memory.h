// free_memory: what the memory that a rank's tensors lie in has left, for train.micro_batch: auto.
#pragma once

#include <string>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "worker/trainer/core/micro_batch.h"

namespace sinkforge::trainer {

// The device's where the backend has one, else the host's. kFailedPrecondition: the system does not
// say.
kernels::Result<FreeMemory> ReadFreeMemory(const kernels::Backend& backend);

// What this process can take of the host's memory without swapping: what the kernel says is
// available, or less where a control group (version 2) of the process or one above it allows less;
// of what such a group has used, the page cache that it can drop does not count. `root` is the
// folder that has /proc and /sys. kFailedPrecondition: /proc/meminfo has no such number.
kernels::Result<FreeMemory> ReadHostMemory(const std::string& root = "");

}  // namespace sinkforge::trainer
