// Large matrix products: oneDNN's sgemm, single-threaded inside the tasks of our own pool, on
// slices of the output that the shape and the thread count alone decide.
//
// oneDNN comes with OpenMP threads of its own. Two pools on the same cores slow each other down,
// and OpenMP loops are opaque to the thread sanitizer, so each product tells OpenMP to use one
// thread. That setting belongs to the calling thread and stays with it.
#pragma once

#include <cstdint>

#include "kernels/cpu/thread_pool.h"

namespace sinkforge::kernels {

enum class Transpose { kNo, kYes };

// C[m, n] = alpha op(A) op(B) + beta C, row-major; op(A) is [m, k], op(B) is [k, n].
struct MatrixProduct {
  Transpose transpose_a = Transpose::kNo;
  Transpose transpose_b = Transpose::kNo;
  int64_t m = 0, n = 0, k = 0;
  float alpha = 1;
  const float* a = nullptr;
  int64_t lda = 0;
  const float* b = nullptr;
  int64_t ldb = 0;
  float beta = 0;
  float* c = nullptr;
  int64_t ldc = 0;
};

// On the calling thread alone.
void RunMatrixProduct(const MatrixProduct& product);
// Sliced over the pool.
void RunMatrixProduct(const MatrixProduct& product, ThreadPool* pool);

}  // namespace sinkforge::kernels
