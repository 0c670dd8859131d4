// A is taken on the matrix's shorter side, so that nothing is transposed:
//
//   rows <= cols   A = X X^T,  X <- (a I + b A + c A^2) X
//   rows >  cols   A = X^T X,  X <- X (a I + b A + c A^2)
//
// Work: 2 (s^2 l + s^3) / 1.6 + 2 s^2 l operations a step for sides s <= l: of the symmetric A and
// A^2 only block rows up to the diagonal are computed, the rest is mirrored.
#include "kernels/cpu/cpu_optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/cpu/parallel_ranges.h"
#include "kernels/newton_schulz.h"

namespace sinkforge::kernels {
namespace {

// Block rows of a symmetric product: four do 5/8 of the whole product's work, and two threads share
// them evenly (4 + 1 and 3 + 2). A block row of fewer rows would mostly pack its other operand.
constexpr int64_t kSymmetricBlocks = 4;
constexpr int64_t kSymmetricRowsMin = 64;
// Of one partial sum of the norm: fixed, so that the threads do not matter.
constexpr int64_t kNormBlock = 16'384;
// Of a tile that is mirrored: its rows and columns stay in the first-level cache.
constexpr int64_t kMirrorTile = 32;

template <typename T>
void GrowTo(int64_t size, std::vector<T>* buffer) {
  if (static_cast<int64_t>(buffer->size()) < size) buffer->resize(static_cast<size_t>(size));
}

// The part above the diagonal of c [n, n] from the part below, rows [begin, end).
void MirrorRows(int64_t n, int64_t begin, int64_t end, float* c) {
  for (int64_t col0 = begin; col0 < n; col0 += kMirrorTile) {
    const int64_t col_end = std::min(n, col0 + kMirrorTile);
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t col = std::max(col0, row + 1); col < col_end; ++col) {
        c[row * n + col] = c[col * n + row];
      }
    }
  }
}

}  // namespace

// A product whose result is symmetric, [m, m].
void CpuMuon::SymmetricProduct(const MatrixProduct& product) {
  const int64_t n = product.m;
  const int64_t rows_each =
      std::max(kSymmetricRowsMin, (n + kSymmetricBlocks - 1) / kSymmetricBlocks);
  const int64_t blocks = (n + rows_each - 1) / rows_each;
  pool_->Run(blocks, [&](int64_t index, int) {
    const int64_t begin = (blocks - 1 - index) * rows_each;  // the longest first
    const int64_t end = std::min(n, begin + rows_each);
    MatrixProduct part = product;
    part.m = end - begin;
    part.n = end;
    part.a += product.transpose_a == Transpose::kYes ? begin : begin * product.lda;
    part.c += begin * product.ldc;
    RunMatrixProduct(part);
  });
  const int64_t tiles = (n + kMirrorTile - 1) / kMirrorTile;
  ForRanges(pool_, tiles, kMirrorTile * n, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      MirrorRows(n, tile * kMirrorTile, std::min(n, (tile + 1) * kMirrorTile), product.c);
    }
  });
}

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
  SymmetricProduct(gram);

  MatrixProduct square;
  square.transpose_b = Transpose::kYes;  // A is symmetric: A A^T = A^2
  square.m = square.n = square.k = small;
  square.alpha = static_cast<float>(kNewtonSchulzC);
  square.a = square.b = gram_.data();
  square.lda = square.ldb = small;
  square.c = polynomial_.data();
  square.ldc = small;
  SymmetricProduct(square);
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
  RunMatrixProduct(update, pool_);
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
