// For one benchmark only, the cost of the head-balance loss: the CPU backend with an attention that
// computes neither gate nor importance. It is the same kernel, compiled without those terms.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace sinkforge::kernels {

// As MakeCpuBackend, but AttentionForward leaves `gate` and `importance_sum` as they are, and
// AttentionBackward takes the importance gradient for zero. Gated variants still apply their gate
// to the output: that is the model, not the loss. With LseGradient::kDetached and kSink, the sink's
// gradient loses digits where the gate is small.
std::unique_ptr<Backend> MakeCpuBackendWithoutImportance(int threads);

}  // namespace sinkforge::kernels
