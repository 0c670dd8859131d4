// Numeric gradients for the float64 reference.
#pragma once

#include <cmath>
#include <functional>
#include <vector>

#include "kernels/tensor.h"

namespace sinkforge::kernels::conformance {

// (f(x + h) - f(x - h)) / 2h in every coordinate. At values near 1 the truncation, of order h^2,
// and the rounding, of order 1e-16 / h, are both near 1e-10.
inline std::vector<double> CentralDifferences(
    const std::function<double(const std::vector<double>&)>& f, std::vector<double> x) {
  constexpr double kStep = 1e-5;
  std::vector<double> gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double saved = x[i];
    x[i] = saved + kStep;
    const double above = f(x);
    x[i] = saved - kStep;
    const double below = f(x);
    x[i] = saved;
    gradient[i] = (above - below) / (2 * kStep);
  }
  return gradient;
}

// ||a - b|| / ||b||; NaN where b is zero.
inline double RelativeError(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

inline Tensor ViewOf(std::vector<double>& values, std::initializer_list<int64_t> shape) {
  return Tensor(values.data(), DType::kF64, shape);
}

}  // namespace sinkforge::kernels::conformance
