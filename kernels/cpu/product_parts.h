// A matrix product as data, and its parts: rows or columns of the result, or a stretch of the sums.
#pragma once

#include <algorithm>
#include <cstdint>

namespace sinkforge::kernels {

enum class Transpose { kNo, kYes };

struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
};

// C[m, n] = alpha op(A) op(B) + beta C, row-major; op(A) is [m, k], op(B) is [k, n].
struct MatrixProduct : ProductShape {
  Transpose transpose_a = Transpose::kNo;
  Transpose transpose_b = Transpose::kNo;
  float alpha = 1;
  const float* a = nullptr;
  int64_t lda = 0;
  const float* b = nullptr;
  int64_t ldb = 0;
  float beta = 0;
  float* c = nullptr;
  int64_t ldc = 0;
};

// Below this, waking a thread takes longer than the product.
inline constexpr int64_t kParallelFlopsMin = 200'000;
// Parts begin at multiples of this: a whole number of the library's register tiles.
inline constexpr int64_t kPartMultiple = 16;

inline bool IsSmall(const ProductShape& p) { return 2 * p.m * p.n * p.k < kParallelFlopsMin; }

// How many of `parts` parts of [0, size) hold anything.
inline int64_t PartsAtMost(int64_t size, int64_t parts) {
  return std::clamp<int64_t>(parts, 1, (size + kPartMultiple - 1) / kPartMultiple);
}
// Where part `part` of `parts` equal parts of [0, size) begins.
inline int64_t PartBegin(int64_t size, int64_t part, int64_t parts) {
  if (part == parts) return size;
  const int64_t groups = (size + kPartMultiple - 1) / kPartMultiple;
  return std::min(size, groups * part / parts * kPartMultiple);
}

// Rows [begin, end) of C.
inline MatrixProduct RowsOf(const MatrixProduct& p, int64_t begin, int64_t end) {
  MatrixProduct part = p;
  part.m = end - begin;
  part.a += p.transpose_a == Transpose::kYes ? begin : begin * p.lda;
  part.c += begin * p.ldc;
  return part;
}

inline MatrixProduct ColumnsOf(const MatrixProduct& p, int64_t begin, int64_t end) {
  MatrixProduct part = p;
  part.n = end - begin;
  part.b += p.transpose_b == Transpose::kYes ? begin * p.ldb : begin;
  part.c += begin;
  return part;
}

// Terms [begin, end) of the sums; what comes after the first ones is added to them.
inline MatrixProduct TermsOf(const MatrixProduct& p, int64_t begin, int64_t end) {
  MatrixProduct part = p;
  part.k = end - begin;
  part.a += p.transpose_a == Transpose::kYes ? begin * p.lda : begin;
  part.b += p.transpose_b == Transpose::kYes ? begin : begin * p.ldb;
  if (begin > 0) part.beta = 1;
  return part;
}

// An operand as it lies in memory: [rows, cols].
struct Stored {
  int64_t rows, cols;
  int64_t elements() const { return rows * cols; }
};
inline Stored StoredA(const MatrixProduct& p) {
  return p.transpose_a == Transpose::kYes ? Stored{p.k, p.m} : Stored{p.m, p.k};
}
inline Stored StoredB(const MatrixProduct& p) {
  return p.transpose_b == Transpose::kYes ? Stored{p.n, p.k} : Stored{p.k, p.n};
}

}  // namespace sinkforge::kernels
