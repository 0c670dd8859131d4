// What differs between a real device and an emulated one in the conformance of CudaBackend.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"

namespace sinkforge::kernels::conformance {

// Changes what results must not depend on, as far as the device allows: the emulated one runs the
// warps of the second run in another order.
void VaryExecution(int run);

// Before each case. On a real device, one that takes a minute is a kernel that hangs, and ends the
// process with its name.
void BeginCase(const std::string& name);

// Where attention's paths are held against each other (device_attention.h); heads of 64 or 128.
std::vector<AttentionShape> LongAttentionShapes();

// What the device's libraries may take beside what is allocated.
int64_t UnplannedBytesMax();
// What allocations may find in blocks of the device's memory that were taken before.
int64_t UncountedBytesMax();

// Cases that take too long for where they run.
bool LeaveOut(const std::string& case_name, CudaAttention path, CudaGradientOrder order);

}  // namespace sinkforge::kernels::conformance
