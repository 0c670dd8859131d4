// What the matrix library is told of where operands start, for operands of different types and
// places.
#include "kernels/cuda/product_alignment.h"

#include <gtest/gtest.h>

#include <cstddef>

namespace sinkforge::kernels::cuda {
namespace {

alignas(64) std::byte memory[256];

ProductArgs ArgsOf(DType input, DType output) {
  ProductArgs args;
  args.a = memory;
  args.b = memory + 64;
  args.c = memory + 128;
  args.input = input;
  args.output = output;
  return args;
}

TEST(ProductAlignmentTest, IsLimitedWhereAllStartAtMore) {
  EXPECT_EQ(AlignmentsOf(ArgsOf(DType::kBF16, DType::kBF16)), (Alignments{16, 16, 16}));
}

TEST(ProductAlignmentTest, OfAnOperandIsItsOwn) {
  ProductArgs args = ArgsOf(DType::kBF16, DType::kF32);
  args.a = memory + 2;
  EXPECT_EQ(AlignmentsOf(args), (Alignments{2, 16, 16}));
  args.b = memory + 72;
  args.c = memory + 132;
  EXPECT_EQ(AlignmentsOf(args), (Alignments{2, 8, 4}));
}

TEST(ProductAlignmentTest, OfTheResultHoldsForTheAddend) {
  ProductArgs args = ArgsOf(DType::kBF16, DType::kF32);
  args.addend = memory + 196;
  EXPECT_EQ(AlignmentsOf(args), (Alignments{16, 16, 4}));
}

TEST(ProductAlignmentTest, HoldsForEveryProductOfABatch) {
  ProductArgs args = ArgsOf(DType::kBF16, DType::kF32);
  args.a_stride = 1;  // of 2 bytes
  args.b_stride = 4;
  args.c_stride = 3;  // of 4 bytes
  EXPECT_EQ(AlignmentsOf(args), (Alignments{16, 16, 16}));
  args.batch = 2;
  EXPECT_EQ(AlignmentsOf(args), (Alignments{2, 8, 4}));
}

}  // namespace
}  // namespace sinkforge::kernels::cuda
