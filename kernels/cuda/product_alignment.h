// What the operands of a matrix product start at multiples of. The library is told of each by
// itself: what it may assume of one must not depend on the others, and float32 at 2 bytes, as a
// neighbour of bfloat16 may lie, is nothing that it has an algorithm for.
#pragma once

#include <compare>
#include <cstdint>

#include "kernels/cuda/matrix_product.h"

namespace sinkforge::kernels::cuda {

// Most tensors start at multiples of this, and the library need not be told more.
inline constexpr uint32_t kAlignmentBytes = 16;

// In bytes, of the matrices of every product of the batch.
struct Alignments {
  uint32_t a = 0, b = 0;
  uint32_t c = 0;  // the addend's too
  auto operator<=>(const Alignments&) const = default;
};

inline Alignments AlignmentsOf(const ProductArgs& args) {
  const auto largest = [&args](uintptr_t starts, int64_t stride, DType dtype) {
    if (args.batch > 1) starts |= static_cast<uintptr_t>(stride * SizeOf(dtype));
    uint32_t alignment = kAlignmentBytes;
    while (starts % alignment != 0) alignment /= 2;
    return alignment;
  };
  const auto start = [](const void* matrix) { return reinterpret_cast<uintptr_t>(matrix); };
  return {largest(start(args.a), args.a_stride, args.input),
          largest(start(args.b), args.b_stride, args.input),
          largest(start(args.c) | start(args.addend), args.c_stride, args.output)};
}

}  // namespace sinkforge::kernels::cuda
