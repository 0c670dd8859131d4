// RefBackend: the readable oracle of every op, in float32 or float64. Plain loops, one thread,
// every sum in the backend's dtype and in index order, so that the float32 backend's error is what
// an unhurried float32 implementation has, and the float64 backend can be held against central
// differences.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace sinkforge::kernels {

// `dtype` is kF32 or kF64.
std::unique_ptr<Backend> MakeRefBackend(DType dtype);

}  // namespace sinkforge::kernels
