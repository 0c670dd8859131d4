// Points into equal ranges of steps; see down_sampler.h.
#include "server/engine/down_sampler.h"

#include <algorithm>
#include <cmath>

namespace sinkforge::server {

DownSampler::DownSampler(const StepExtent& extent, int64_t points_max, RangeValue range_value)
    : extent_(extent),
      points_max_(std::max<int64_t>(points_max, 1)),
      range_value_(range_value),
      steps_per_range_((extent.last - extent.first) / points_max_ + 1) {}

void DownSampler::Add(int64_t step, double value) {
  if (!ranges_.empty()) return Accumulate(step, value);
  v1::Point point;
  point.set_step(step);
  point.set_value(value);
  point.set_min(value);
  point.set_max(value);
  point.set_count(1);
  points_.push_back(point);
  if (static_cast<int64_t>(points_.size()) <= points_max_) return;
  for (const v1::Point& old : points_) Accumulate(old.step(), old.value());
  points_.clear();
}

void DownSampler::Accumulate(int64_t step, double value) {
  const int64_t index = (step - extent_.first) / steps_per_range_;
  if (ranges_.empty() || ranges_.back().index != index) {
    ranges_.push_back({index, value, value, value, value, 1});
    return;
  }
  Range& range = ranges_.back();
  range.sum += value;
  range.last = value;
  range.min = std::fmin(range.min, value);
  range.max = std::fmax(range.max, value);
  ++range.count;
}

std::vector<v1::Point> DownSampler::Points() const {
  if (ranges_.empty()) return points_;
  std::vector<v1::Point> points;
  points.reserve(ranges_.size());
  for (const Range& range : ranges_) {
    v1::Point point;
    const int64_t range_end = extent_.first + (range.index + 1) * steps_per_range_ - 1;
    point.set_step(std::min(range_end, extent_.last));
    point.set_value(range_value_ == RangeValue::kLast
                        ? range.last
                        : range.sum / static_cast<double>(range.count));
    point.set_min(range.min);
    point.set_max(range.max);
    point.set_count(range.count);
    points.push_back(point);
  }
  return points;
}

}  // namespace sinkforge::server
