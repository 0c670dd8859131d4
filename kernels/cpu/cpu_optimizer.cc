// A is taken on the matrix's shorter side, so that nothing is transposed:
//
//   rows <= cols   A = X X^T,  X <- (a I + b A + c A^2) X
//   rows >  cols   A = X^T X,  X <- X (a I + b A + c A^2)
//
// Work: 2 (s^2 l + s^3) / 1.6 + 2 s^2 l operations a step for sides s <= l (RunSymmetric).
#include "kernels/cpu/cpu_optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/cpu/parallel_ranges.h"
#include "kernels/cpu/workspace.h"
#include "kernels/newton_schulz.h"

namespace sinkforge::kernels {
namespace {

// Of one partial sum of the norm: fixed, so that the threads do not matter.
constexpr int64_t kNormBlock = 16'384;

}  // namespace

void CpuMuon::NewtonSchulzStep(int64_t rows, int64_t cols) {
  const bool wide = rows <= cols;
  const int64_t small = std::min(rows, cols);
  MatrixProduct gram;
  (wide ? gram.transpose_b : gram.transpose_a) = Transpose::kYes;
  gram.m = gram.n = small;
  gram.k = std::max(rows, cols);
  gram.a = gram.b = x_.data();
  gram.lda = gram.ldb = cols;
  gram.c = gram_.data();
  gram.ldc = small;
  products_->RunSymmetric(gram);

  MatrixProduct square;
  square.transpose_b = Transpose::kYes;  // A is symmetric: A A^T = A^2
  square.m = square.n = square.k = small;
  square.alpha = static_cast<float>(kNewtonSchulzC);
  square.a = square.b = gram_.data();
  square.lda = square.ldb = small;
  square.c = polynomial_.data();
  square.ldc = small;
  products_->RunSymmetric(square);
  const float a = static_cast<float>(kNewtonSchulzA);
  const float b = static_cast<float>(kNewtonSchulzB);
  ForRanges(pool_, small, small, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * small; i < end * small; ++i) {
      polynomial_[static_cast<size_t>(i)] += b * gram_[static_cast<size_t>(i)];
    }
    for (int64_t i = begin; i < end; ++i) polynomial_[static_cast<size_t>(i * small + i)] += a;
  });

  MatrixProduct update;
  update.m = rows;
  update.n = cols;
  update.k = small;
  update.a = wide ? polynomial_.data() : x_.data();
  update.lda = small;
  update.b = wide ? x_.data() : polynomial_.data();
  update.ldb = cols;
  update.c = next_.data();
  update.ldc = cols;
  products_->Run(update);
  std::swap(x_, next_);
}

// Into the momentum buffer, and Nesterov's mean of it and the gradient into x_.
void CpuMuon::Momentum(const MuonArgs& args) {
  float* buffer = args.momentum_buffer.as<float>();
  const float* gradient = args.gradient.as<float>();
  float* x = x_.data();
  const float momentum = static_cast<float>(args.momentum);
  const float one_minus_momentum = static_cast<float>(1.0 - args.momentum);
  const float scale = static_cast<float>(args.gradient_scale);
  ForRanges(pool_, args.parameter.elements(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float g = gradient[i] * scale;
      buffer[i] += one_minus_momentum * (g - buffer[i]);
      x[i] = g + momentum * (buffer[i] - g);
    }
  });
}

double CpuMuon::NormOfUpdate(int64_t elements) {
  const int64_t blocks = (elements + kNormBlock - 1) / kNormBlock;
  GrowTo(blocks, &partials_);
  ForRanges(pool_, blocks, kNormBlock, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t count = std::min(kNormBlock, elements - i * kNormBlock);
      partials_[static_cast<size_t>(i)] =
          kernels_.sum_of_squares(x_.data() + i * kNormBlock, count);
    }
  });
  double sum = 0;
  for (int64_t i = 0; i < blocks; ++i) sum += partials_[static_cast<size_t>(i)];
  return std::sqrt(sum);
}

void CpuMuon::Step(const MuonArgs& args) {
  const int64_t rows = args.parameter.dim(0);
  const int64_t cols = args.parameter.dim(1);
  const int64_t elements = rows * cols;
  const int64_t small = std::min(rows, cols);
  for (std::vector<float>* buffer : {&x_, &next_}) GrowTo(elements, buffer);
  for (std::vector<float>* buffer : {&gram_, &polynomial_}) GrowTo(small * small, buffer);

  Momentum(args);
  const float inverse = static_cast<float>(1.0 / (NormOfUpdate(elements) + kNewtonSchulzEpsilon));
  ForRanges(pool_, elements, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x_[static_cast<size_t>(i)] *= inverse;
  });
  for (int step = 0; step < kNewtonSchulzSteps; ++step) NewtonSchulzStep(rows, cols);

  const double ratio = static_cast<double>(rows) / static_cast<double>(cols);
  const float rate = static_cast<float>(args.learning_rate * std::sqrt(std::max(1.0, ratio)));
  float* parameter = args.parameter.as<float>();
  const float* x = x_.data();
  ForRanges(pool_, elements, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) parameter[i] -= rate * x[i];
  });
}

}  // namespace sinkforge::kernels
