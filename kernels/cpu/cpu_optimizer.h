// Muon on the CPU (MuonArgs in backend.h): Newton-Schulz in the precision of the products.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/matrix_product.h"
#include "kernels/cpu/simd_kernels.h"
#include "kernels/cpu/thread_pool.h"

namespace sinkforge::kernels {

class CpuMuon {
 public:
  // All must outlive this.
  CpuMuon(const SimdKernels& kernels, ThreadPool* pool, MatrixProducts* products)
      : kernels_(kernels), pool_(pool), products_(products) {}

  void Step(const MuonArgs& args);
  // For the most elements and the longest shorter side of the matrices that Step is called with.
  static int64_t WorkspaceBytes(int64_t elements, int64_t side) {
    return 2 * (elements + side * side) * SizeOf(DType::kF32);
  }

 private:
  void Momentum(const MuonArgs& args);
  double NormOfUpdate(int64_t elements);
  void NewtonSchulzStep(int64_t rows, int64_t cols);

  const SimdKernels& kernels_;
  ThreadPool* const pool_;
  MatrixProducts* const products_;
  std::vector<float> x_, next_;           // [rows, cols]
  std::vector<float> gram_, polynomial_;  // [s, s], s the smaller of both: A, and a I + b A + c A^2
  std::vector<double> partials_;          // of the norm
};

}  // namespace sinkforge::kernels
