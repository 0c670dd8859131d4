// For each block of rows: logits = x w^T; by rows, softcap, softmax, losses, and the logits become
// their gradient; d_x = dl w; d_w += dl^T x, in the order of blocks. Every product is cut over the
// pool by its longer side, so that the threads do not all pack the whole of w. Accumulation in
// float32. Memory: at most kLogitsBytesMax of logits, which are written twice and read three times;
// w is read twice a block, and d_w read and written.
#include "kernels/cpu/cpu_cross_entropy.h"

#include <algorithm>

#include "kernels/cpu/parallel_ranges.h"
#include "kernels/cpu/workspace.h"
#include "kernels/op_checks.h"

namespace sinkforge::kernels {
namespace {

// Of one block: 512 rows at a vocabulary of 65536, since each block passes through all of w and
// d_w; a whole batch of bytes.
constexpr int64_t kLogitsBytesMax = 128 << 20;

int64_t RowsOfBlock(int64_t rows, int64_t vocabulary) {
  return std::clamp<int64_t>(kLogitsBytesMax / (vocabulary * SizeOf(DType::kF32)), 1, rows);
}

}  // namespace

// Row n of the batch, whose logits become their gradient where one is wanted.
void CpuCrossEntropy::RunRow(const CrossEntropyArgs& args, int64_t n, float* logits) {
  const int64_t vocabulary = MatrixOf(args.w).rows;
  const bool gradient = !args.d_x.empty();
  const int32_t target = args.targets.as<int32_t>()[n];
  float* loss = args.losses.as<float>() + n;
  if (target == -1) {
    *loss = 0;
    if (gradient) std::fill_n(logits, vocabulary, 0.0F);
    return;
  }
  SINKFORGE_CHECK(target >= 0 && target < vocabulary);
  *loss = kernels_.cross_entropy_row(logits, vocabulary, target, static_cast<float>(args.softcap),
                                     static_cast<float>(args.loss_scale), gradient);
}

// Of the block of rows [row0, row0 + count), whose logits hold their gradient.
void CpuCrossEntropy::RunGradients(const CrossEntropyArgs& args, int64_t row0, int64_t count) {
  const int64_t width = MatrixOf(args.x).cols;
  const int64_t vocabulary = MatrixOf(args.w).rows;
  MatrixProduct d_x;
  d_x.m = count;
  d_x.n = width;
  d_x.k = vocabulary;
  d_x.a = logits_.data();
  d_x.lda = vocabulary;
  d_x.b = args.w.as<float>();
  d_x.ldb = width;
  d_x.c = args.d_x.as<float>() + row0 * width;
  d_x.ldc = width;
  products_->Run(d_x);
  MatrixProduct d_w;
  d_w.transpose_a = Transpose::kYes;
  d_w.m = vocabulary;
  d_w.n = width;
  d_w.k = count;
  d_w.a = logits_.data();
  d_w.lda = vocabulary;
  d_w.b = args.x.as<float>() + row0 * width;
  d_w.ldb = width;
  d_w.beta = 1;
  d_w.c = args.d_w.as<float>();
  d_w.ldc = width;
  products_->Run(d_w);
}

int64_t CpuCrossEntropy::WorkspaceBytes(int64_t rows, int64_t vocabulary) {
  return RowsOfBlock(rows, vocabulary) * vocabulary * SizeOf(DType::kF32);
}

void CpuCrossEntropy::Run(const CrossEntropyArgs& args) {
  const int64_t rows = MatrixOf(args.x).rows;
  const int64_t width = MatrixOf(args.x).cols;
  const int64_t vocabulary = MatrixOf(args.w).rows;
  const int64_t block = RowsOfBlock(rows, vocabulary);
  const size_t floats = static_cast<size_t>(block * vocabulary);
  GrowTo(floats, &logits_);
  for (int64_t row0 = 0; row0 < rows; row0 += block) {
    const int64_t count = std::min(block, rows - row0);
    MatrixProduct product;
    product.transpose_b = Transpose::kYes;
    product.m = count;
    product.n = vocabulary;
    product.k = width;
    product.a = args.x.as<float>() + row0 * width;
    product.lda = width;
    product.b = args.w.as<float>();
    product.ldb = width;
    product.c = logits_.data();
    product.ldc = vocabulary;
    products_->Run(product);
    ForRanges(pool_, count, vocabulary, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) RunRow(args, row0 + i, logits_.data() + i * vocabulary);
    });
    if (!args.d_x.empty()) RunGradients(args, row0, count);
  }
}

}  // namespace sinkforge::kernels
