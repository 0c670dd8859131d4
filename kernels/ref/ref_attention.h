// The oracle of causal attention with a gate per head (method.md sections 1 and 3), one query row
// at a time: the only buffers are one row of logits and one row of probabilities' gradients.
//
//   forward, for each (b, h, t):  z_j = q_t . k_j / sqrt(d), j <= t
//     vanilla  U = sum_j P_j v_j, G = sum_{j>0} P_j
//     sink     U = sum_j P_j v_j with exp(s_h) in the denominator, G = sum_j P_j
//     gated    U = sum_j P_j v_j, G = sigmoid(gate logit)
//   Y = U / RMS(U) with the head norm, else U;  out = G o Y for gated, else Y.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/ref/rounding.h"

namespace sinkforge::kernels {

// The rows that grow to the longest sequence and the widest head seen.
template <typename Real>
struct RefAttentionScratch {
  std::vector<Real> probability;  // [T]
  std::vector<Real> aggregated;   // [d]: U, then dU
};

// `rounding` is of the probabilities before they meet v.
template <typename Real>
void RefAttentionForward(const AttentionConfig& config, const AttentionShape& shape,
                         const AttentionForwardArgs& args, Intermediates rounding,
                         RefAttentionScratch<Real>* scratch);
// `rounding` is of dU, where it is more than dO times one number a row.
template <typename Real>
void RefAttentionBackward(const AttentionConfig& config, const AttentionShape& shape,
                          const AttentionBackwardArgs& args, Intermediates rounding,
                          RefAttentionScratch<Real>* scratch);

}  // namespace sinkforge::kernels
