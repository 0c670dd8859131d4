// Means of the last steps; see imbalance_trend.h.
#include "worker/agent/imbalance_trend.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sinkforge::worker {

void ImbalanceTrend::Add(double imbalance) {
  if (!std::isfinite(imbalance)) return;
  steps_.push_back(imbalance);
  if (steps_.size() > kMeanSteps) steps_.pop_front();
  const std::optional<double> now = mean();
  if (!now) return;
  means_.push_back(*now);
  if (means_.size() <= kApartSteps) return;
  least_ = std::min(least_.value_or(means_.front()), means_.front());
  means_.pop_front();
}

std::optional<double> ImbalanceTrend::mean() const {
  if (steps_.size() < kMeanSteps) return std::nullopt;
  // Summed anew, so that no rounding adds up over a long run.
  return std::accumulate(steps_.begin(), steps_.end(), 0.0) / kMeanSteps;
}

}  // namespace sinkforge::worker
