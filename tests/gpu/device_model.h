// The whole model on CudaBackend against the float64 reference.
#pragma once

#include "tests/gpu/counts.h"

namespace sinkforge::kernels::conformance {

// Every variant in both precisions: loss, importance and each parameter's gradient, whose error may
// be twice that of the readable backend in the same precision. Prints a line a failure.
Counts CheckModels(const Selection& selection);

}  // namespace sinkforge::kernels::conformance
