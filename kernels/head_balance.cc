// The arithmetic of head_balance.h, in float64. Equations: method.md sections 2 and 3 (Eq. 5 to 8).
#include "kernels/head_balance.h"

#include <cmath>
#include <cstddef>

#include "kernels/status.h"

namespace sinkforge::kernels {
namespace {

// The mean importance is bounded below by this, so that heads that are all closed give a large
// finite loss instead of a division by zero.
constexpr double kMeanImportanceMin = 1e-6;

struct Moments {
  double mean = 0;
  double variance = 0;      // population: divided by the number of heads
  double bounded_mean = 0;  // max(mean, kMeanImportanceMin); NaN stays NaN
  bool bound_acts = false;
};

// True if head h is one of the m largest; ties go to the lower index. Counting ranks instead of
// sorting needs no memory, and H is at most a few dozen.
bool IsShared(std::span<const double> importance, size_t h, int64_t shared_heads) {
  if (shared_heads == 0) return false;
  int64_t rank = 0;
  for (size_t k = 0; k < importance.size(); ++k) {
    if (importance[k] > importance[h] || (importance[k] == importance[h] && k < h)) ++rank;
  }
  return rank < shared_heads;
}

Moments MomentsOfCounted(std::span<const double> importance, int64_t shared_heads) {
  const double count = static_cast<double>(importance.size()) - static_cast<double>(shared_heads);
  Moments moments;
  for (size_t h = 0; h < importance.size(); ++h) {
    if (!IsShared(importance, h, shared_heads)) moments.mean += importance[h];
  }
  moments.mean /= count;
  for (size_t h = 0; h < importance.size(); ++h) {
    if (IsShared(importance, h, shared_heads)) continue;
    const double deviation = importance[h] - moments.mean;
    moments.variance += deviation * deviation;
  }
  moments.variance /= count;
  moments.bound_acts = moments.mean < kMeanImportanceMin;
  moments.bounded_mean = moments.bound_acts ? kMeanImportanceMin : moments.mean;
  return moments;
}

// Eq. 7 and 8 of one layer: returns the loss and writes g_h = dL/dImp_h / N.
double CvLoss(const HeadBalanceConfig& config, double positions, std::span<const double> importance,
              std::span<double> gradient) {
  const Moments moments = MomentsOfCounted(importance, config.shared_heads);
  const double mu = moments.bounded_mean;
  const double pull = moments.bound_acts ? 0.0 : moments.variance / mu;
  for (size_t h = 0; h < importance.size(); ++h) {
    if (IsShared(importance, h, config.shared_heads)) continue;
    gradient[h] =
        config.coefficient * 2.0 / (mu * mu) * ((importance[h] - moments.mean) - pull) / positions;
  }
  const double counted =
      static_cast<double>(importance.size()) - static_cast<double>(config.shared_heads);
  return config.coefficient * counted * moments.variance / (mu * mu);
}

// Switch Transformer's loss carried over to the heads of one layer (the control experiment).
double SwitchLoss(const HeadBalanceConfig& config, double positions,
                  std::span<const double> importance, std::span<const double> argmax_counts,
                  std::span<double> gradient) {
  const double heads = static_cast<double>(importance.size());
  const Moments moments = MomentsOfCounted(importance, 0);
  const double total = heads * moments.bounded_mean;
  double product = 0;  // sum_h f_h p_h
  for (size_t h = 0; h < importance.size(); ++h) {
    product += argmax_counts[h] / positions * (importance[h] / total);
  }
  const double through_total = moments.bound_acts ? 0.0 : product;
  for (size_t h = 0; h < importance.size(); ++h) {
    gradient[h] = config.coefficient * heads * (argmax_counts[h] / positions - through_total) /
                  total / positions;
  }
  return config.coefficient * heads * product;
}

}  // namespace

void ComputeHeadBalance(const HeadBalanceConfig& config, const HeadBalanceInput& input,
                        HeadBalance* out) {
  const size_t layers = static_cast<size_t>(input.layers);
  const size_t heads = static_cast<size_t>(input.heads);
  SINKFORGE_CHECK(input.layers > 0 && input.heads > 0 && input.positions > 0);
  SINKFORGE_CHECK(input.gate_sums.size() == layers * heads);
  SINKFORGE_CHECK(config.loss != BalanceLoss::kSwitch ||
                  input.argmax_counts.size() == layers * heads);
  SINKFORGE_CHECK(config.shared_heads == 0 ||
                  (config.loss == BalanceLoss::kCv && config.shared_heads > 0 &&
                   config.shared_heads <= input.heads - 2));
  out->importance.resize(layers * heads);
  out->layer_cv.resize(layers);
  out->gradient.assign(layers * heads, 0.0);
  out->imbalance = 0;
  out->aux_loss = 0;
  for (size_t i = 0; i < layers * heads; ++i) {
    out->importance[i] = input.gate_sums[i] / input.positions;
  }
  for (size_t l = 0; l < layers; ++l) {
    const auto importance = std::span<const double>(out->importance).subspan(l * heads, heads);
    const auto gradient = std::span<double>(out->gradient).subspan(l * heads, heads);
    const Moments all = MomentsOfCounted(importance, 0);
    out->layer_cv[l] = std::sqrt(all.variance) / all.bounded_mean;
    out->imbalance += out->layer_cv[l] / static_cast<double>(layers);
    if (config.loss == BalanceLoss::kCv) {
      out->aux_loss += CvLoss(config, input.positions, importance, gradient);
    } else if (config.loss == BalanceLoss::kSwitch) {
      out->aux_loss += SwitchLoss(config, input.positions, importance,
                                  input.argmax_counts.subspan(l * heads, heads), gradient);
    }
  }
}

}  // namespace sinkforge::kernels
