// Bytes moved: A, B and C once each per slice; a slice re-reads the operand that it does not split.
#include "kernels/cpu/matrix_product.h"

#include <omp.h>

#include <algorithm>

#include "kernels/status.h"
#include "oneapi/dnnl/dnnl.h"

namespace sinkforge::kernels {
namespace {

// Below this, waking a thread takes longer than the product.
constexpr int64_t kParallelFlopsMin = 200'000;
// Slices are multiples of this: a whole number of the library's register tiles.
constexpr int64_t kSliceMultiple = 16;

int64_t SliceBegin(int64_t size, int64_t slice, int64_t slices) {
  if (slice == slices) return size;
  const int64_t groups = (size + kSliceMultiple - 1) / kSliceMultiple;
  return std::min(size, groups * slice / slices * kSliceMultiple);
}

}  // namespace

void RunMatrixProduct(const MatrixProduct& p) {
  if (p.m == 0 || p.n == 0) return;
  omp_set_num_threads(1);
  const dnnl_status_t status = dnnl_sgemm(p.transpose_a == Transpose::kYes ? 'T' : 'N',
                                          p.transpose_b == Transpose::kYes ? 'T' : 'N', p.m, p.n,
                                          p.k, p.alpha, p.a, p.lda, p.b, p.ldb, p.beta, p.c, p.ldc);
  SINKFORGE_CHECK(status == dnnl_success);
}

void RunMatrixProduct(const MatrixProduct& p, ThreadPool* pool) {
  const bool by_rows = p.m >= p.n;
  const int64_t size = by_rows ? p.m : p.n;
  const int64_t groups = (size + kSliceMultiple - 1) / kSliceMultiple;
  const bool small = 2 * p.m * p.n * p.k < kParallelFlopsMin;
  const int64_t slices = small ? 1 : std::min<int64_t>(pool->threads(), groups);
  pool->Run(slices, [&](int64_t slice, int) {
    const int64_t begin = SliceBegin(size, slice, slices);
    const int64_t end = SliceBegin(size, slice + 1, slices);
    MatrixProduct part = p;
    if (by_rows) {
      part.m = end - begin;
      part.a += p.transpose_a == Transpose::kYes ? begin : begin * p.lda;
      part.c += begin * p.ldc;
    } else {
      part.n = end - begin;
      part.b += p.transpose_b == Transpose::kYes ? begin * p.ldb : begin;
      part.c += begin;
    }
    RunMatrixProduct(part);
  });
}

}  // namespace sinkforge::kernels
