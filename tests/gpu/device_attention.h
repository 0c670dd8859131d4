// Attention's paths against each other at shapes that the readable backends would take hours for.
#pragma once

#include "tests/gpu/counts.h"

namespace sinkforge::kernels::conformance {

// Forward and backward of every variant on every path with tensor cores that the device has,
// against the path without, and twice for equal bits: at shapes of many pieces of work a
// multiprocessor, and of many tiles a piece (LongAttentionShapes). Prints a line a failure.
Counts CheckLongAttention(const Selection& selection);

}  // namespace sinkforge::kernels::conformance
