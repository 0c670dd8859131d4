// The real device of the conformance table: its own scheduling is variation enough.
#include "tests/gpu/device_run.h"

namespace sinkforge::kernels::conformance {

void VaryExecution(int) {}

// The library's own kernels are loaded when they are first run.
int64_t UnplannedBytesMax() { return int64_t{512} << 20; }

bool LeaveOut(const std::string&, CudaAttention, CudaGradientOrder) { return false; }

}  // namespace sinkforge::kernels::conformance
