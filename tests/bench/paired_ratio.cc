// Median and percentile bootstrap, with a fixed seed.
#include "tests/bench/paired_ratio.h"

#include <algorithm>
#include <cstddef>
#include <random>

namespace sinkforge::bench {

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

Interval BootstrapMedian(const std::vector<double>& ratios, int resamples) {
  std::mt19937_64 random(20260203);
  std::uniform_int_distribution<size_t> pick(0, ratios.size() - 1);
  std::vector<double> medians;
  std::vector<double> draw(ratios.size());
  for (int i = 0; i < resamples; ++i) {
    for (double& value : draw) value = ratios[pick(random)];
    medians.push_back(Median(draw));
  }
  std::sort(medians.begin(), medians.end());
  const auto at = [&](double share) {
    return medians[static_cast<size_t>(share * static_cast<double>(medians.size() - 1))];
  };
  return {.median = Median(ratios), .low = at(0.025), .high = at(0.975)};
}

Verdict Judge(const Interval& interval, double limit) {
  if (interval.high <= limit) return Verdict::kWithin;
  return interval.low > limit ? Verdict::kAbove : Verdict::kNotResolved;
}

}  // namespace sinkforge::bench
