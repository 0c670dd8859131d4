// Cross-entropy on the CPU (CrossEntropyArgs in backend.h), with the product that makes the logits
// and the two that take their gradient.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/matrix_product.h"
#include "kernels/cpu/simd_kernels.h"
#include "kernels/cpu/thread_pool.h"

namespace sinkforge::kernels {

class CpuCrossEntropy {
 public:
  // All must outlive this.
  CpuCrossEntropy(const SimdKernels& kernels, ThreadPool* pool, MatrixProducts* products)
      : kernels_(kernels), pool_(pool), products_(products) {}

  void Run(const CrossEntropyArgs& args);
  static int64_t WorkspaceBytes(int64_t rows, int64_t vocabulary);

 private:
  void RunRow(const CrossEntropyArgs& args, int64_t n, float* logits);
  void RunGradients(const CrossEntropyArgs& args, int64_t row0, int64_t count);

  const SimdKernels& kernels_;
  ThreadPool* const pool_;
  MatrixProducts* const products_;
  std::vector<float> logits_;  // a block of rows
};

}  // namespace sinkforge::kernels
