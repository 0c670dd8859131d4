// The memory that training takes on CudaBackend against its plan.
#pragma once

#include "tests/gpu/counts.h"

namespace sinkforge::kernels::conformance {

// Every variant in both precisions, with both optimizers: what a step and an evaluation have
// taken of the device is what PlanMemory says beforehand, but for the workspaces of Newton-Schulz,
// of which it says the most. Prints a line a failure.
Counts CheckMemoryPlans(const Selection& selection);

}  // namespace sinkforge::kernels::conformance
