// Plain loops; sums in Real.
#include "kernels/ref/ref_optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "kernels/newton_schulz.h"
#include "kernels/op_checks.h"

namespace sinkforge::kernels {
namespace {

// out = a b^T; a [n, k], b [m, k].
template <typename Real>
void MultiplyTransposed(const std::vector<Real>& a, const std::vector<Real>& b, size_t n, size_t m,
                        size_t k, std::vector<Real>* out) {
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < m; ++j) {
      Real sum = 0;
      for (size_t c = 0; c < k; ++c) sum += a[i * k + c] * b[j * k + c];
      (*out)[i * m + j] = sum;
    }
  }
}

// One step X <- a X + (b A + c A^2) X on scratch->x [rows, cols], rows <= cols.
template <typename Real>
void NewtonSchulzStep(size_t rows, size_t cols, Intermediates rounding,
                      RefMuonScratch<Real>* scratch) {
  MultiplyTransposed(scratch->x, scratch->x, rows, rows, cols, &scratch->a);
  RoundAll(rounding, scratch->a.data(), static_cast<int64_t>(scratch->a.size()));
  // A is symmetric, so that A A^T = A^2.
  MultiplyTransposed(scratch->a, scratch->a, rows, rows, rows, &scratch->a2);
  for (size_t i = 0; i < rows * rows; ++i) {
    scratch->a2[i] = static_cast<Real>(kNewtonSchulzB) * scratch->a[i] +
                     static_cast<Real>(kNewtonSchulzC) * scratch->a2[i];
  }
  RoundAll(rounding, scratch->a2.data(), static_cast<int64_t>(scratch->a2.size()));
  for (size_t i = 0; i < rows; ++i) {
    for (size_t c = 0; c < cols; ++c) {
      Real sum = static_cast<Real>(kNewtonSchulzA) * scratch->x[i * cols + c];
      for (size_t j = 0; j < rows; ++j) {
        sum += scratch->a2[i * rows + j] * scratch->x[j * cols + c];
      }
      scratch->next[i * cols + c] = sum;
    }
  }
  RoundAll(rounding, scratch->next.data(), static_cast<int64_t>(scratch->next.size()));
  std::swap(scratch->x, scratch->next);
}

}  // namespace

template <typename Real>
void RefAdamW(const AdamWArgs& args) {
  Real* p = DataOf<Real>(args.parameter);
  const Real* g = DataOf<Real>(args.gradient);
  Real* m = DataOf<Real>(args.m);
  Real* v = DataOf<Real>(args.v);
  const double step = static_cast<double>(args.step);
  const Real m_correction = static_cast<Real>(1.0 - std::pow(args.beta1, step));
  const Real v_correction = static_cast<Real>(1.0 - std::pow(args.beta2, step));
  const Real beta1 = static_cast<Real>(args.beta1);
  const Real beta2 = static_cast<Real>(args.beta2);
  // Taken in float64: 1 - beta would lose digits in float32.
  const Real one_minus_beta1 = static_cast<Real>(1.0 - args.beta1);
  const Real one_minus_beta2 = static_cast<Real>(1.0 - args.beta2);
  const Real rate = static_cast<Real>(args.learning_rate);
  const Real decay = static_cast<Real>(args.learning_rate * args.weight_decay);
  for (int64_t i = 0; i < args.parameter.elements(); ++i) {
    const Real gradient = g[i] * static_cast<Real>(args.gradient_scale);
    m[i] = beta1 * m[i] + one_minus_beta1 * gradient;
    v[i] = beta2 * v[i] + one_minus_beta2 * gradient * gradient;
    const Real denominator = std::sqrt(v[i] / v_correction) + static_cast<Real>(args.epsilon);
    p[i] -= decay * p[i] + rate * (m[i] / m_correction) / denominator;
  }
}

template <typename Real>
void RefMuon(const MuonArgs& args, Intermediates rounding, RefMuonScratch<Real>* scratch) {
  const size_t rows = static_cast<size_t>(args.parameter.dim(0));
  const size_t cols = static_cast<size_t>(args.parameter.dim(1));
  // Newton-Schulz works on the wide form, so that A is the smaller of the two Gram matrices.
  const bool transposed = rows > cols;
  const size_t small = std::min(rows, cols);
  const size_t large = std::max(rows, cols);
  scratch->x.resize(small * large);
  scratch->next.resize(small * large);
  scratch->a.resize(small * small);
  scratch->a2.resize(small * small);

  Real* buffer = DataOf<Real>(args.momentum_buffer);
  const Real* gradient = DataOf<Real>(args.gradient);
  const Real momentum = static_cast<Real>(args.momentum);
  const Real one_minus_momentum = static_cast<Real>(1.0 - args.momentum);
  Real square = 0;
  for (size_t i = 0; i < rows * cols; ++i) {
    const Real g = gradient[i] * static_cast<Real>(args.gradient_scale);
    buffer[i] += one_minus_momentum * (g - buffer[i]);
    const Real nesterov = g + momentum * (buffer[i] - g);
    square += nesterov * nesterov;
    const size_t at = transposed ? (i % cols) * rows + i / cols : i;
    scratch->x[at] = nesterov;
  }
  const Real norm = std::sqrt(square) + static_cast<Real>(kNewtonSchulzEpsilon);
  for (Real& x : scratch->x) x /= norm;
  RoundAll(rounding, scratch->x.data(), static_cast<int64_t>(scratch->x.size()));
  for (int step = 0; step < kNewtonSchulzSteps; ++step) {
    NewtonSchulzStep(small, large, rounding, scratch);
  }

  const double ratio = static_cast<double>(rows) / static_cast<double>(cols);
  const Real rate = static_cast<Real>(args.learning_rate * std::sqrt(std::max(1.0, ratio)));
  Real* parameter = DataOf<Real>(args.parameter);
  for (size_t i = 0; i < rows * cols; ++i) {
    parameter[i] -= rate * scratch->x[transposed ? (i % cols) * rows + i / cols : i];
  }
}

template void RefAdamW<float>(const AdamWArgs&);
template void RefAdamW<double>(const AdamWArgs&);
template void RefMuon<float>(const MuonArgs&, Intermediates, RefMuonScratch<float>*);
template void RefMuon<double>(const MuonArgs&, Intermediates, RefMuonScratch<double>*);

}  // namespace sinkforge::kernels
