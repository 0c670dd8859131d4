// Bytes moved: A, B and C once each per slice; a slice re-reads the operand that it does not split.
#include "kernels/cpu/matrix_product.h"

#include <omp.h>

#include <algorithm>

#include "kernels/cpu/parallel_ranges.h"
#include "kernels/cpu/workspace.h"
#include "kernels/status.h"
#include "kernels/tensor.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace sinkforge::kernels {
namespace {

// Block rows of a symmetric product: four do 5/8 of the whole product's work, and two threads share
// them evenly (4 + 1 and 3 + 2). A block row of fewer rows would mostly pack its other operand.
constexpr int64_t kSymmetricBlocks = 4;
constexpr int64_t kSymmetricRowsMin = 64;
// Of a tile that is mirrored: its rows and columns stay in the first-level cache.
constexpr int64_t kMirrorTile = 32;

// How a product is cut over the pool.
struct Slicing {
  Slicing(const MatrixProduct& p, const ThreadPool& pool)
      : by_rows(p.m >= p.n),
        size(by_rows ? p.m : p.n),
        slices(PartsAtMost(size, IsSmall(p) ? 1 : pool.threads())) {}
  MatrixProduct Part(const MatrixProduct& p, int64_t slice) const {
    const int64_t begin = PartBegin(size, slice, slices);
    const int64_t end = PartBegin(size, slice + 1, slices);
    return by_rows ? RowsOf(p, begin, end) : ColumnsOf(p, begin, end);
  }
  bool by_rows;
  int64_t size, slices;
};

// On the calling thread alone.
void MultiplyInFloat32(const MatrixProduct& p) {
  if (p.m == 0 || p.n == 0) return;
  omp_set_num_threads(1);
  const dnnl_status_t status = dnnl_sgemm(p.transpose_a == Transpose::kYes ? 'T' : 'N',
                                          p.transpose_b == Transpose::kYes ? 'T' : 'N', p.m, p.n,
                                          p.k, p.alpha, p.a, p.lda, p.b, p.ldb, p.beta, p.c, p.ldc);
  SINKFORGE_CHECK(status == dnnl_success);
}

// The part above the diagonal of c [n, n] from the part below, rows [begin, end).
void MirrorRows(int64_t n, int64_t begin, int64_t end, float* c) {
  for (int64_t col0 = begin; col0 < n; col0 += kMirrorTile) {
    const int64_t col_end = std::min(n, col0 + kMirrorTile);
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t col = std::max(col0, row + 1); col < col_end; ++col) {
        c[row * n + col] = c[col * n + row];
      }
    }
  }
}

}  // namespace

MatrixProducts::MatrixProducts(ProductPrecision precision, const SimdKernels& kernels,
                               ThreadPool* pool)
    : precision_(precision), kernels_(kernels), pool_(pool) {
  if (precision == ProductPrecision::kBfloat16) {
    bfloat16_ = std::make_unique<Bfloat16Products>(kernels, pool);
  }
}

MatrixProducts::~MatrixProducts() = default;

void MatrixProducts::Run(const MatrixProduct& product) {
  if (product.m == 0 || product.n == 0) return;
  switch (precision_) {
    case ProductPrecision::kFloat32:
      return RunInFloat32(product);
    case ProductPrecision::kBfloat16:
      return bfloat16_->Run(product);
    case ProductPrecision::kBfloat16Emulated:
      return RunInFloat32(Rounded(product));
  }
}

void MatrixProducts::RunInFloat32(const MatrixProduct& product) {
  const Slicing slicing(product, *pool_);
  pool_->Run(slicing.slices,
             [&](int64_t slice, int) { MultiplyInFloat32(slicing.Part(product, slice)); });
}

void MatrixProducts::RunSymmetric(const MatrixProduct& product) {
  const int64_t n = product.m;
  const int64_t rows_each =
      std::max(kSymmetricRowsMin, (n + kSymmetricBlocks - 1) / kSymmetricBlocks);
  const int64_t blocks = (n + rows_each - 1) / rows_each;
  const auto block_of = [&](const MatrixProduct& whole, int64_t index) {
    const int64_t begin = (blocks - 1 - index) * rows_each;  // the longest first
    const int64_t end = std::min(n, begin + rows_each);
    return ColumnsOf(RowsOf(whole, begin, end), 0, end);
  };
  if (precision_ == ProductPrecision::kBfloat16) {
    bfloat16_->RunOwnTranspose(product, blocks, block_of);
  } else {
    const MatrixProduct whole =
        precision_ == ProductPrecision::kFloat32 ? product : Rounded(product);
    pool_->Run(blocks, [&](int64_t index, int) { MultiplyInFloat32(block_of(whole, index)); });
  }
  const int64_t tiles = (n + kMirrorTile - 1) / kMirrorTile;
  ForRanges(pool_, tiles, kMirrorTile * n, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      MirrorRows(n, tile * kMirrorTile, std::min(n, (tile + 1) * kMirrorTile), product.c);
    }
  });
}

int64_t MatrixProducts::WorkspaceBytes(std::span<const ProductShape> shapes) const {
  if (precision_ == ProductPrecision::kFloat32) return 0;
  if (precision_ == ProductPrecision::kBfloat16) return bfloat16_->WorkspaceBytes(shapes);
  int64_t a = 0;
  int64_t b = 0;
  for (const ProductShape& shape : shapes) {
    a = std::max(a, shape.m * shape.k);
    b = std::max(b, shape.n * shape.k);
  }
  return (a + b) * SizeOf(DType::kF32);
}

MatrixProduct MatrixProducts::Rounded(const MatrixProduct& product) {
  const auto round = [&](const Stored& stored, const float* from, int64_t ld, float* to) {
    ForRanges(pool_, stored.rows, stored.cols, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        kernels_.round_to_bfloat16(from + row * ld, stored.cols, to + row * stored.cols);
      }
    });
  };
  const Stored a = StoredA(product);
  const Stored b = StoredB(product);
  MatrixProduct rounded = product;
  float* to_a = GrowTo(a.rows * a.cols, &rounded_a_);
  float* to_b = GrowTo(b.rows * b.cols, &rounded_b_);
  round(a, product.a, product.lda, to_a);
  round(b, product.b, product.ldb, to_b);
  rounded.a = to_a;
  rounded.lda = a.cols;
  rounded.b = to_b;
  rounded.ldb = b.cols;
  return rounded;
}

}  // namespace sinkforge::kernels
