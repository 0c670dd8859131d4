// For each block of rows, two loops over the pool: (1) by rows: logits = x w^T, softcap, softmax,
// losses, the logits become their gradient, d_x = dl w; (2) by slices of the vocabulary or the
// width: d_w += dl^T x, in the order of blocks. Accumulation in float32. Memory: at most
// kLogitsBytesMax of logits, which are written once and read twice.
#include "kernels/cpu/cpu_cross_entropy.h"

#include <algorithm>

#include "kernels/cpu/matrix_product.h"
#include "kernels/cpu/parallel_ranges.h"
#include "kernels/op_checks.h"

namespace sinkforge::kernels {
namespace {

// Of one block: two blocks of 64 rows at a vocabulary of 65536, and a whole batch of bytes.
constexpr int64_t kLogitsBytesMax = 32 << 20;

}  // namespace

// Rows [begin, end) of the batch; `logits` is theirs, [end - begin, V].
void CpuCrossEntropy::RunRows(const CrossEntropyArgs& args, int64_t begin, int64_t end,
                              float* logits) {
  const int64_t width = MatrixOf(args.x).cols;
  const int64_t vocabulary = MatrixOf(args.w).rows;
  MatrixProduct product;
  product.transpose_b = Transpose::kYes;
  product.m = end - begin;
  product.n = vocabulary;
  product.k = width;
  product.a = args.x.as<float>() + begin * width;
  product.lda = width;
  product.b = args.w.as<float>();
  product.ldb = width;
  product.c = logits;
  product.ldc = vocabulary;
  RunMatrixProduct(product);
  const bool gradient = !args.d_x.empty();
  for (int64_t n = begin; n < end; ++n) {
    float* row = logits + (n - begin) * vocabulary;
    const int32_t target = args.targets.as<int32_t>()[n];
    float* loss = args.losses.as<float>() + n;
    if (target == -1) {
      *loss = 0;
      if (gradient) std::fill_n(row, vocabulary, 0.0F);
      continue;
    }
    SINKFORGE_CHECK(target >= 0 && target < vocabulary);
    *loss = kernels_.cross_entropy_row(row, vocabulary, target, static_cast<float>(args.softcap),
                                       static_cast<float>(args.loss_scale), gradient);
  }
  if (!gradient) return;
  product.transpose_b = Transpose::kNo;
  product.n = width;
  product.k = vocabulary;
  product.a = logits;
  product.lda = vocabulary;
  product.c = args.d_x.as<float>() + begin * width;
  product.ldc = width;
  RunMatrixProduct(product);
}

void CpuCrossEntropy::Run(const CrossEntropyArgs& args) {
  const int64_t rows = MatrixOf(args.x).rows;
  const int64_t width = MatrixOf(args.x).cols;
  const int64_t vocabulary = MatrixOf(args.w).rows;
  const int64_t row_bytes = vocabulary * SizeOf(DType::kF32);
  const int64_t block = std::clamp<int64_t>(kLogitsBytesMax / row_bytes, 1, rows);
  const size_t floats = static_cast<size_t>(block * vocabulary);
  if (logits_.size() < floats) logits_.resize(floats);
  for (int64_t row0 = 0; row0 < rows; row0 += block) {
    const int64_t count = std::min(block, rows - row0);
    ForRanges(pool_, count, vocabulary, [&](int64_t begin, int64_t end) {
      RunRows(args, row0 + begin, row0 + end, logits_.data() + begin * vocabulary);
    });
    if (args.d_w.empty()) continue;
    MatrixProduct product;
    product.transpose_a = Transpose::kYes;
    product.m = vocabulary;
    product.n = width;
    product.k = count;
    product.a = logits_.data();
    product.lda = vocabulary;
    product.b = args.x.as<float>() + row0 * width;
    product.ldb = width;
    product.beta = 1;
    product.c = args.d_w.as<float>();
    product.ldc = width;
    RunMatrixProduct(product, pool_);
  }
}

}  // namespace sinkforge::kernels
