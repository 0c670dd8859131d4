// See rope_table.h.
#include "kernels/cpu/rope_table.h"

#include <cmath>
#include <cstddef>

namespace sinkforge::kernels {

void RopeTable::Prepare(double base, int64_t sequence, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  if (base == base_ && half == half_ && sequence <= sequence_) return;
  base_ = base;
  half_ = half;
  sequence_ = sequence;
  cosines_.resize(static_cast<size_t>(sequence * half));
  sines_.resize(static_cast<size_t>(sequence * half));
  for (int64_t i = 0; i < half; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
    const double frequency = std::pow(base, exponent);
    for (int64_t t = 0; t < sequence; ++t) {
      const double angle = static_cast<double>(t) * frequency;
      cosines_[static_cast<size_t>(t * half + i)] = static_cast<float>(std::cos(angle));
      sines_[static_cast<size_t>(t * half + i)] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace sinkforge::kernels
