// make_backend: the backend of a device, where this build has it.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::trainer {

// kRef: the readable oracle, one thread, slow; for checking the fast ones.
enum class BackendChoice { kFast, kRef };

// From the resolved job's resources.device, resources.threads and train.precision.
// kInvalidArgument: this build has no backend for the device; kFailedPrecondition: this machine has
// no such device.
kernels::Result<std::unique_ptr<kernels::Backend>> MakeBackend(const v1::JobSpec& job,
                                                               BackendChoice choice);

}  // namespace sinkforge::trainer
