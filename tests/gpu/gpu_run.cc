// The real device of the conformance table: its own scheduling is variation enough.
#include "tests/gpu/device_run.h"

namespace sinkforge::kernels::conformance {

void VaryExecution(int) {}

bool LeaveOut(const std::string&, CudaAttention, CudaGradientOrder) { return false; }

}  // namespace sinkforge::kernels::conformance
