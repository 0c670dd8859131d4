// free_memory: what the memory that a rank's tensors lie in has left, for train.micro_batch: auto.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "worker/trainer/core/micro_batch.h"

namespace sinkforge::trainer {

// The device's where the backend has one, else the host's, which `slots` (at least 1) ranks may
// share. kFailedPrecondition: the system does not say.
kernels::Result<FreeMemory> ReadFreeMemory(const kernels::Backend& backend, int64_t slots);

// What this process can take of the host's memory without swapping: what the kernel says is
// available, or less where a control group (of either version) of the process or one above it
// allows less; of what such a group has used, the page cache that it can drop does not count. A
// slot's share is one of `slots` parts of all that the machine has, or that such a group allows.
// The process's own are the limits of its address space and its data, less what it has of them.
// `root` is the folder that has /proc and /sys. kFailedPrecondition: /proc/meminfo lacks a number.
kernels::Result<FreeMemory> ReadHostMemory(int64_t slots, const std::string& root = "");

}  // namespace sinkforge::trainer
