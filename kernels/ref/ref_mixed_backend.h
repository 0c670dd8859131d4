// The oracle of mixed precision: activations and working weights are stored in bfloat16, every op
// is computed in float32 by the readable backend on the stored values, and what it leaves is
// rounded once. It is what an unhurried implementation in that precision gives, which the tests
// measure the fast ones against.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace sinkforge::kernels {

std::unique_ptr<Backend> MakeRefMixedBackend();

}  // namespace sinkforge::kernels
