// The GPUs and the backend of one. Two files implement it, of which a build has one:
// device_backend_cuda.cc with SINKFORGE_CUDA, else device_backend_none.cc.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/cuda/device_list.h"
#include "kernels/status.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::trainer {

// On the first GPU that the process sees (CUDA_VISIBLE_DEVICES). kInvalidArgument: this build has
// none; kFailedPrecondition: this machine has none.
kernels::Result<std::unique_ptr<kernels::Backend>> MakeDeviceBackend(v1::Precision precision);

// kInvalidArgument: this build can use none; kFailedPrecondition: this machine has none. Says why,
// and the next step.
kernels::Result<kernels::CudaDevices> ListDevices();

}  // namespace sinkforge::trainer
