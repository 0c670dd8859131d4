// Muon on the CPU (MuonArgs in backend.h): Newton-Schulz in float32 with products over the pool.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/simd_kernels.h"
#include "kernels/cpu/thread_pool.h"

namespace sinkforge::kernels {

class CpuMuon {
 public:
  // Both must outlive this.
  CpuMuon(const SimdKernels& kernels, ThreadPool* pool) : kernels_(kernels), pool_(pool) {}

  void Step(const MuonArgs& args);

 private:
  void NewtonSchulzStep(int64_t rows, int64_t cols);

  const SimdKernels& kernels_;
  ThreadPool* const pool_;
  std::vector<float> x_, next_;           // [min, max] of (rows, cols)
  std::vector<float> gram_, polynomial_;  // [min, min]: A, and b A + c A^2
};

}  // namespace sinkforge::kernels
