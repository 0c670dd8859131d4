// The cosines and sines of rotary positions: position t and pair i turn by t * base^(-2i/d). Made
// in float64 at the first use of a (base, head dim) or of a longer sequence, then only read.
#pragma once

#include <cstdint>
#include <vector>

namespace sinkforge::kernels {

class RopeTable {
 public:
  static int64_t WorkspaceBytes(int64_t sequence, int64_t head_dim) {
    return sequence * (head_dim / 2) * 2 * static_cast<int64_t>(sizeof(float));
  }
  void Prepare(double base, int64_t sequence, int64_t head_dim);
  // [head_dim / 2] for position t < sequence.
  const float* Cosines(int64_t t) const { return cosines_.data() + t * half_; }
  const float* Sines(int64_t t) const { return sines_.data() + t * half_; }

 private:
  double base_ = 0;
  int64_t sequence_ = 0;
  int64_t half_ = 0;
  std::vector<float> cosines_, sines_;
};

}  // namespace sinkforge::kernels
