// Statistics of a paired benchmark: the median of the ratios and its bootstrap interval.
#pragma once

#include <cstdint>
#include <vector>

namespace sinkforge::bench {

struct Interval {
  double median = 0;
  double low = 0;   // 2.5th percentile of the bootstrapped medians
  double high = 0;  // 97.5th
};

// `values` is not empty.
double Median(std::vector<double> values);

// The median of `ratios` with its 95% bootstrap interval over `resamples` draws; deterministic.
Interval BootstrapMedian(const std::vector<double>& ratios, int resamples);

enum class Verdict { kWithin, kAbove, kNotResolved };

// Whether the whole interval is at most `limit`, above it, or on both sides.
Verdict Judge(const Interval& interval, double limit);

}  // namespace sinkforge::bench
