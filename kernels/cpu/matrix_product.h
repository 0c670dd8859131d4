// Large matrix products over our own pool, on slices of the output that the shape and the thread
// count alone decide. float32: oneDNN's sgemm, single-threaded inside each slice. bfloat16: the
// operands are rounded to bfloat16 (to nearest, ties to even) and multiplied by oneDNN's matmul on
// the processor's bfloat16 units, with sums in float32; or, emulated, by sgemm on the rounded
// values: products of two bfloat16 numbers are exact in float32, so that both differ in nothing but
// the order of the sums.
//
// oneDNN comes with OpenMP threads of its own. Two pools on the same cores slow each other down,
// and OpenMP loops are opaque to the thread sanitizer, so each product tells OpenMP to use one
// thread. That setting belongs to the calling thread and stays with it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cpu/simd_kernels.h"
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

enum class ProductPrecision { kFloat32, kBfloat16, kBfloat16Emulated };

// Whether this processor has instructions for bfloat16 products that the library uses.
bool ProcessorMultipliesBfloat16();

// Owned by the backend; the pool and the kernels must outlive it. Used by one thread.
class MatrixProducts {
 public:
  MatrixProducts(ProductPrecision precision, const SimdKernels& kernels, ThreadPool* pool);
  ~MatrixProducts();

  void Run(const MatrixProduct& product);
  // Of a product whose result is symmetric, [m, m]: less than the whole work, exactly symmetric.
  void RunSymmetric(const MatrixProduct& product);
  // What is kept of the operands, given the most elements that a and b have; without the library's
  // own scratch, which is small beside them.
  int64_t WorkspaceBytes(int64_t a_elements, int64_t b_elements) const;

 private:
  class Bfloat16Library;

  MatrixProduct Rounded(const MatrixProduct& product);
  void RunInFloat32(const MatrixProduct& product);
  template <typename PartOf>
  void RunInBfloat16(const MatrixProduct& product, int64_t parts, const PartOf& part_of);

  const ProductPrecision precision_;
  const SimdKernels& kernels_;
  ThreadPool* const pool_;
  std::vector<float> rounded_a_, rounded_b_;  // kBfloat16Emulated
  std::unique_ptr<Bfloat16Library> library_;  // kBfloat16
};

}  // namespace sinkforge::kernels
