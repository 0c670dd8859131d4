// Products of float32 matrices on the processor's bfloat16 units: the operands are rounded to
// bfloat16 (to nearest, ties to even) and multiplied by oneDNN's matmul, with sums in float32.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cpu/product_parts.h"
#include "kernels/cpu/simd_kernels.h"
#include "kernels/cpu/thread_pool.h"

namespace sinkforge::kernels {

// Whether this processor has instructions for bfloat16 products that the library uses.
bool ProcessorMultipliesBfloat16();

// Used by one thread; the pool and the kernels must outlive it.
class Bfloat16Products {
 public:
  Bfloat16Products(const SimdKernels& kernels, ThreadPool* pool);
  ~Bfloat16Products();

  void Run(const MatrixProduct& product);
  // Of a matrix times its transpose the parts part_of(product, 0 ... parts - 1), which may run at
  // the same time.
  using PartOf = std::function<MatrixProduct(const MatrixProduct&, int64_t part)>;
  void RunOwnTranspose(const MatrixProduct& product, int64_t parts, const PartOf& part_of);

  // What is kept after products of these shapes; without the library's own scratch, which is small
  // beside it.
  int64_t WorkspaceBytes(std::span<const ProductShape> shapes) const;

 private:
  class Library;
  struct Plan;

  Plan PlanOf(const ProductShape& shape) const;
  const uint16_t* RoundWhole(const Stored& stored, const float* from, int64_t ld);
  void RoundBlock(const Stored& stored, const float* from, int64_t ld, uint16_t* to) const;

  const SimdKernels& kernels_;
  ThreadPool* const pool_;
  const std::unique_ptr<Library> library_;
  std::vector<uint16_t> whole_;
  std::vector<uint16_t> blocks_;  // one a thread
};

}  // namespace sinkforge::kernels
