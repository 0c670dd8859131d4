// Large matrix products over our own pool, on slices of the output that the shape and the thread
// count alone decide. float32: oneDNN's sgemm, single-threaded inside each slice. bfloat16: see
// bfloat16_products.h; or, emulated, sgemm on the rounded values: products of two bfloat16 numbers
// are exact in float32, so that both differ in nothing but the order of the sums.
//
// oneDNN comes with OpenMP threads of its own. Two pools on the same cores slow each other down,
// and OpenMP loops are opaque to the thread sanitizer, so each product tells OpenMP to use one
// thread. That setting belongs to the calling thread and stays with it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cpu/bfloat16_products.h"
#include "kernels/cpu/product_parts.h"
#include "kernels/cpu/simd_kernels.h"
#include "kernels/cpu/thread_pool.h"

namespace sinkforge::kernels {

enum class ProductPrecision { kFloat32, kBfloat16, kBfloat16Emulated };

// Owned by the backend; the pool and the kernels must outlive it. Used by one thread.
class MatrixProducts {
 public:
  MatrixProducts(ProductPrecision precision, const SimdKernels& kernels, ThreadPool* pool);
  ~MatrixProducts();

  void Run(const MatrixProduct& product);
  // Of a product whose result is symmetric, [m, m]: less than the whole work, exactly symmetric.
  void RunSymmetric(const MatrixProduct& product);
  // What is kept of the operands after products of these shapes.
  int64_t WorkspaceBytes(std::span<const ProductShape> shapes) const;

 private:
  MatrixProduct Rounded(const MatrixProduct& product);
  void RunInFloat32(const MatrixProduct& product);

  const ProductPrecision precision_;
  const SimdKernels& kernels_;
  ThreadPool* const pool_;
  std::vector<float> rounded_a_, rounded_b_;    // kBfloat16Emulated
  std::unique_ptr<Bfloat16Products> bfloat16_;  // kBfloat16
};

}  // namespace sinkforge::kernels
