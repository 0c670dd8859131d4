// Work: 2 (2 s^2 l + s^3) operations a step for an s x l matrix, s <= l, nearly all in products.
#include "kernels/cpu/cpu_optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/cpu/matrix_product.h"
#include "kernels/cpu/parallel_ranges.h"
#include "kernels/newton_schulz.h"

namespace sinkforge::kernels {

// X <- a X + (b A + c A^2) X with A = X X^T; X is [rows, cols], rows <= cols.
void CpuMuon::NewtonSchulzStep(int64_t rows, int64_t cols) {
  MatrixProduct product;
  product.transpose_b = Transpose::kYes;
  product.m = rows;
  product.n = rows;
  product.k = cols;
  product.a = x_.data();
  product.lda = cols;
  product.b = x_.data();
  product.ldb = cols;
  product.c = gram_.data();
  product.ldc = rows;
  RunMatrixProduct(product, pool_);

  // A is symmetric: A A^T = A^2. beta adds b A, which was copied there.
  std::copy_n(gram_.data(), rows * rows, polynomial_.data());
  product.k = rows;
  product.alpha = static_cast<float>(kNewtonSchulzC);
  product.beta = static_cast<float>(kNewtonSchulzB);
  product.a = gram_.data();
  product.lda = rows;
  product.b = gram_.data();
  product.ldb = rows;
  product.c = polynomial_.data();
  RunMatrixProduct(product, pool_);

  ForRanges(pool_, rows * cols, 1, [&](int64_t begin, int64_t end) {
    std::copy(x_.data() + begin, x_.data() + end, next_.data() + begin);
  });
  product.transpose_b = Transpose::kNo;
  product.n = cols;
  product.alpha = 1;
  product.beta = static_cast<float>(kNewtonSchulzA);
  product.a = polynomial_.data();
  product.b = x_.data();
  product.ldb = cols;
  product.c = next_.data();
  product.ldc = cols;
  RunMatrixProduct(product, pool_);
  std::swap(x_, next_);
}

void CpuMuon::Step(const MuonArgs& args) {
  const int64_t rows = args.parameter.dim(0);
  const int64_t cols = args.parameter.dim(1);
  // The wide form makes A the smaller of the two Gram matrices.
  const bool transposed = rows > cols;
  const int64_t small = std::min(rows, cols);
  const int64_t large = std::max(rows, cols);
  // Sizes are those of this parameter; capacity stays that of the largest.
  x_.resize(static_cast<size_t>(rows * cols));
  next_.resize(static_cast<size_t>(rows * cols));
  gram_.resize(static_cast<size_t>(small * small));
  polynomial_.resize(static_cast<size_t>(small * small));

  float* buffer = args.momentum_buffer.as<float>();
  const float* gradient = args.gradient.as<float>();
  const float momentum = static_cast<float>(args.momentum);
  const float one_minus_momentum = static_cast<float>(1.0 - args.momentum);
  const float scale = static_cast<float>(args.gradient_scale);
  ForRanges(pool_, rows, cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        const int64_t i = r * cols + c;
        const float g = gradient[i] * scale;
        buffer[i] += one_minus_momentum * (g - buffer[i]);
        x_[static_cast<size_t>(transposed ? c * rows + r : i)] = g + momentum * (buffer[i] - g);
      }
    }
  });
  const double norm =
      std::sqrt(kernels_.sum_of_squares(x_.data(), rows * cols)) + kNewtonSchulzEpsilon;
  const float inverse = static_cast<float>(1.0 / norm);
  for (float& x : x_) x *= inverse;
  for (int step = 0; step < kNewtonSchulzSteps; ++step) NewtonSchulzStep(small, large);

  const double ratio = static_cast<double>(rows) / static_cast<double>(cols);
  const float rate = static_cast<float>(args.learning_rate * std::sqrt(std::max(1.0, ratio)));
  float* parameter = args.parameter.as<float>();
  ForRanges(pool_, rows, cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        parameter[r * cols + c] -=
            rate * x_[static_cast<size_t>(transposed ? c * rows + r : r * cols + c)];
      }
    }
  });
}

}  // namespace sinkforge::kernels
