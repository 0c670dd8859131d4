// Cross-entropy on the CPU (CrossEntropyArgs in backend.h), with the product that makes the logits
// and the two that take their gradient.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/simd_kernels.h"
#include "kernels/cpu/thread_pool.h"

namespace sinkforge::kernels {

class CpuCrossEntropy {
 public:
  // Both must outlive this.
  CpuCrossEntropy(const SimdKernels& kernels, ThreadPool* pool) : kernels_(kernels), pool_(pool) {}

  void Run(const CrossEntropyArgs& args);

 private:
  void RunRows(const CrossEntropyArgs& args, int64_t begin, int64_t end, float* logits);

  const SimdKernels& kernels_;
  ThreadPool* const pool_;
  std::vector<float> logits_;  // a block of rows
};

}  // namespace sinkforge::kernels
