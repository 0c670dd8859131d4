// Head balance: from the gate sums of one global micro-batch to importance, imbalance, the
// auxiliary loss and the one scalar per head that its gradient needs (method.md sections 2 and 3;
// Eq. 5 to 8 of arXiv 2602.01203).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sinkforge::kernels {

enum class BalanceLoss { kNone, kCv, kSwitch };

struct HeadBalanceConfig {
  BalanceLoss loss = BalanceLoss::kNone;
  double coefficient = 0;
  int64_t shared_heads = 0;  // m of Eq. 8, 0 <= m <= heads - 2; kCv only
};

struct HeadBalance {
  std::vector<double> importance;  // [L, H], Eq. 5
  std::vector<double> layer_cv;    // [L]: CV over all heads (also where m > 0: what is reported)
  double imbalance = 0;            // Eq. 6
  double aux_loss = 0;             // with the coefficient
  std::vector<double> gradient;    // [L, H]: g_h = dL_aux/dG_{i,t}, that is dL_aux/dImp_h / N
};

struct HeadBalanceInput {
  int64_t layers = 0;
  int64_t heads = 0;
  double positions = 0;                   // N: all (i, t) of the global micro-batch
  std::span<const double> gate_sums;      // [L, H], summed over all ranks
  std::span<const double> argmax_counts;  // [L, H], kSwitch only
};

// Writes into `out`, whose vectors keep their capacity (no allocation in a steady step).
void ComputeHeadBalance(const HeadBalanceConfig& config, const HeadBalanceInput& input,
                        HeadBalance* out);

}  // namespace sinkforge::kernels
