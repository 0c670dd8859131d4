// DownSampler: one series of a metric query, kept as points while they are few and as equal ranges
// of steps once they are more. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "server/engine/history_store.h"
#include "sinkforge/v1/metrics.pb.h"

namespace sinkforge::server {

// What a range of steps shows: the mean of what each step measured anew, or the last of what stays
// until it changes, such as the tokens so far.
enum class RangeValue { kMean, kLast };

class DownSampler {
 public:
  // All steps that will be added lie in `extent`. At most `points_max` points come out (at least
  // 1).
  DownSampler(const StepExtent& extent, int64_t points_max, RangeValue range_value);

  // Steps come in order, each once.
  void Add(int64_t step, double value);
  // A single point has the step's value; a range has its last step (not beyond the extent's last),
  // and mean or last, least, greatest and number of its values. A mean is NaN where a value is;
  // least and greatest are of the other values.
  std::vector<v1::Point> Points() const;

 private:
  struct Range {
    int64_t index = 0;
    double sum = 0;
    double last = 0;
    double min = 0;
    double max = 0;
    int64_t count = 0;
  };

  void Accumulate(int64_t step, double value);

  const StepExtent extent_;
  const int64_t points_max_;
  const RangeValue range_value_;
  const int64_t steps_per_range_;
  std::vector<v1::Point> points_;  // while there are at most points_max_
  std::vector<Range> ranges_;      // else
};

}  // namespace sinkforge::server
