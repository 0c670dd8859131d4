// What differs between a real device and an emulated one in the conformance of CudaBackend.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/cuda/cuda_backend.h"

namespace sinkforge::kernels::conformance {

// Changes what results must not depend on, as far as the device allows: the emulated one runs the
// warps of the second run in another order.
void VaryExecution(int run);

// What the device's libraries may take beside what is allocated.
int64_t UnplannedBytesMax();

// Cases that take too long for where they run.
bool LeaveOut(const std::string& case_name, CudaAttention path, CudaGradientOrder order);

}  // namespace sinkforge::kernels::conformance
