// make_backend: the backend of a device, where this build has it.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"
#include "kernels/cpu/matrix_product.h"
#include "kernels/status.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::trainer {

// kRef: the readable oracle, one thread, slow; for checking the fast ones.
enum class BackendChoice { kFast, kRef };

// How the CPU multiplies matrices for a job. bf16 without instructions for it would be slower than
// fp32, so that such a job trains in fp32.
kernels::ProductPrecision ProductsOnCpu(v1::Precision precision, bool processor_has_bfloat16);
// What to tell people where a job of this device and precision trains in another; else empty.
std::string ExplainPrecision(const v1::JobSpec& job, bool processor_has_bfloat16);

// From the resolved job's resources.device, resources.threads and train.precision; the reference
// computes in float32 whatever the precision. kInvalidArgument: this build has no backend for the
// device; kFailedPrecondition: this machine has no such device.
kernels::Result<std::unique_ptr<kernels::Backend>> MakeBackend(const v1::JobSpec& job,
                                                               BackendChoice choice);

}  // namespace sinkforge::trainer
