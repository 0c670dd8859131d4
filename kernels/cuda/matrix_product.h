// Matrix products on a GPU, by cuBLASLt: row-major c = alpha op(a) op(b) + beta addend, batched
// by stride, accumulated in float32 and rounded once.
#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "kernels/tensor.h"

namespace sinkforge::kernels::cuda {

enum class Operand { kPlain, kTransposed };

struct ProductArgs {
  int64_t m = 0, n = 0, k = 0;  // c [m, n], op(a) [m, k], op(b) [k, n]
  Operand a_form = Operand::kPlain;
  Operand b_form = Operand::kPlain;
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;
  const void* addend = nullptr;  // as c is laid out; null: what c holds
  DType input = DType::kF32;     // of a and b: kF32 or kBF16
  DType output = DType::kF32;    // of c
  float alpha = 1;
  float beta = 0;
  int64_t batch = 1;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0;  // elements, of a batch
};

// Owned by the backend. The first product of each shape asks the library for an algorithm, which is
// then kept, so that the same shape always gives the same bits.
class MatrixProducts {
 public:
  explicit MatrixProducts(cudaStream_t stream);
  ~MatrixProducts();
  MatrixProducts(const MatrixProducts&) = delete;
  MatrixProducts& operator=(const MatrixProducts&) = delete;

  void Multiply(const ProductArgs& args);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sinkforge::kernels::cuda
