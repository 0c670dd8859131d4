// The small matrix products of the attention tiles, and the packing that feeds them. Included by
// simd_level-inl.h only.
//
//   C[M, N] (=|+=) A[M, K] B[K, N]   or with A given as its transpose [K, M]
//
// B's rows are read as vectors, A's elements are broadcast; kRows x 2 vectors of C stay in
// registers over the whole of K. M and N are multiples of 16, from padded scratch. A library's
// product would spend more on its call than a 64 x 64 x 32 tile takes.

// 8 x 2 accumulators keep two multiply-add units of 4 cycles busy and fit 32 registers; levels with
// 16 registers take 4 x 2.
constexpr int64_t kRows = kLanes == 16 ? 8 : 4;

enum class Operand { kPlain, kTransposed };
enum class Result { kAssign, kAdd };

struct Product {
  int64_t m, n, k;
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb;
  float* c;
  int64_t ldc;
};

template <Operand kA, Result kC, int64_t kVectors>
SINKFORGE_INLINE void ProductBlock(const Product& x, int64_t i, int64_t j) {
  VF sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int64_t s = 0; s < kVectors; ++s) {
      sum[r][s] = kC == Result::kAdd ? Load(x.c + (i + r) * x.ldc + j + s * kLanes) : VF{};
    }
  }
  const float* a = kA == Operand::kPlain ? x.a + i * x.lda : x.a + i;
  const float* b = x.b + j;
  for (int64_t k = 0; k < x.k; ++k) {
    VF bv[kVectors];
#pragma GCC unroll 2
    for (int64_t s = 0; s < kVectors; ++s) bv[s] = Load(b + s * kLanes);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kRows; ++r) {
      const float av = kA == Operand::kPlain ? a[r * x.lda] : a[r];
#pragma GCC unroll 2
      for (int64_t s = 0; s < kVectors; ++s) sum[r][s] += bv[s] * av;
    }
    a += kA == Operand::kPlain ? 1 : x.lda;
    b += x.ldb;
  }
#pragma GCC unroll 8
  for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int64_t s = 0; s < kVectors; ++s) Save(x.c + (i + r) * x.ldc + j + s * kLanes, sum[r][s]);
  }
}

template <Operand kA, Result kC>
void Multiply(const Product& x) {
  int64_t j = 0;
  for (; j + 2 * kLanes <= x.n; j += 2 * kLanes) {
    for (int64_t i = 0; i < x.m; i += kRows) ProductBlock<kA, kC, 2>(x, i, j);
  }
  if (j < x.n) {
    for (int64_t i = 0; i < x.m; i += kRows) ProductBlock<kA, kC, 1>(x, i, j);
  }
}

SINKFORGE_INLINE int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
SINKFORGE_INLINE int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Rows, keys and channels are padded to whole vectors of the widest level, so that the layout of
// scratch memory does not depend on the level.
constexpr int64_t kPad = kSimdLanesMax;

// to[r, c] = scale * from[r, c] for r < rows, c < cols; zero up to the padded sizes.
SINKFORGE_INLINE void PackRows(const float* from, int64_t stride, int64_t rows, int64_t cols,
                               float scale, int64_t padded_rows, int64_t padded_cols, float* to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < padded_cols; c += kLanes) {
      Save(to + r * padded_cols + c, LoadFirst(from + r * stride + c, cols - c) * scale);
    }
  }
  for (int64_t i = rows * padded_cols; i < padded_rows * padded_cols; i += kLanes) {
    Save(to + i, VF{});
  }
}

// to[c, r] = from[r, c], zero up to the padded sizes; `ld` is to's row stride.
void PackTransposed(const float* from, int64_t stride, int64_t rows, int64_t cols,
                    int64_t padded_rows, int64_t padded_cols, float* to, int64_t ld) {
  for (int64_t r = 0; r < padded_rows; r += kLanes) {
    for (int64_t c = 0; c < padded_cols; c += kLanes) {
      VF block[kLanes];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) {
        block[i] = r + i < rows ? LoadFirst(from + (r + i) * stride + c, cols - c) : VF{};
      }
      TransposeBlock(block);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) Save(to + (c + i) * ld + r, block[i]);
    }
  }
}
