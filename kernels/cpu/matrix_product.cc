// Bytes moved: A, B and C once each per slice; a slice re-reads the operand that it does not split.
// bfloat16 reads each operand once more, to round it, and writes half as much.
#include "kernels/cpu/matrix_product.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <utility>

#include "kernels/cpu/parallel_ranges.h"
#include "kernels/cpu/workspace.h"
#include "kernels/status.h"
#include "kernels/tensor.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace sinkforge::kernels {
namespace {

// Below this, waking a thread takes longer than the product.
constexpr int64_t kParallelFlopsMin = 200'000;
// Slices are multiples of this: a whole number of the library's register tiles.
constexpr int64_t kSliceMultiple = 16;
// Block rows of a symmetric product: four do 5/8 of the whole product's work, and two threads share
// them evenly (4 + 1 and 3 + 2). A block row of fewer rows would mostly pack its other operand.
constexpr int64_t kSymmetricBlocks = 4;
constexpr int64_t kSymmetricRowsMin = 64;
// Of a tile that is mirrored: its rows and columns stay in the first-level cache.
constexpr int64_t kMirrorTile = 32;

int64_t SliceBegin(int64_t size, int64_t slice, int64_t slices) {
  if (slice == slices) return size;
  const int64_t groups = (size + kSliceMultiple - 1) / kSliceMultiple;
  return std::min(size, groups * slice / slices * kSliceMultiple);
}

// Rows [begin, end) of C.
MatrixProduct RowsOf(const MatrixProduct& p, int64_t begin, int64_t end) {
  MatrixProduct part = p;
  part.m = end - begin;
  part.a += p.transpose_a == Transpose::kYes ? begin : begin * p.lda;
  part.c += begin * p.ldc;
  return part;
}

MatrixProduct ColumnsOf(const MatrixProduct& p, int64_t begin, int64_t end) {
  MatrixProduct part = p;
  part.n = end - begin;
  part.b += p.transpose_b == Transpose::kYes ? begin * p.ldb : begin;
  part.c += begin;
  return part;
}

// How a product is cut over the pool.
struct Slicing {
  Slicing(const MatrixProduct& p, const ThreadPool& pool) : by_rows(p.m >= p.n) {
    size = by_rows ? p.m : p.n;
    const int64_t groups = (size + kSliceMultiple - 1) / kSliceMultiple;
    const bool small = 2 * p.m * p.n * p.k < kParallelFlopsMin;
    slices = small ? 1 : std::min<int64_t>(pool.threads(), groups);
  }
  MatrixProduct Part(const MatrixProduct& p, int64_t slice) const {
    const int64_t begin = SliceBegin(size, slice, slices);
    const int64_t end = SliceBegin(size, slice + 1, slices);
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

// As it lies in memory: [rows, cols].
struct Stored {
  int64_t rows, cols;
};
Stored StoredA(const MatrixProduct& p) {
  return p.transpose_a == Transpose::kYes ? Stored{p.k, p.m} : Stored{p.m, p.k};
}
Stored StoredB(const MatrixProduct& p) {
  return p.transpose_b == Transpose::kYes ? Stored{p.n, p.k} : Stored{p.k, p.n};
}

}  // namespace

// Primitives of oneDNN's matmul, one for each shape and slice, made at their first use.
class MatrixProducts::Bfloat16Library {
 public:
  Bfloat16Library() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

  // The operands are packed: lda and ldb are the stored columns of the whole operand.
  struct Operands {
    const uint16_t* a;
    const uint16_t* b;
  };
  struct Executable {
    dnnl::matmul primitive;
    dnnl::memory::desc a, b, c, scratch;
  };

  const Executable& Find(const MatrixProduct& p) {
    const Key key = {
        p.m,
        p.n,
        p.k,
        p.lda,
        p.ldb,
        p.ldc,
        (p.transpose_a == Transpose::kYes ? 1 : 0) + (p.transpose_b == Transpose::kYes ? 2 : 0),
        Bits(p.alpha),
        Bits(p.beta)};
    const auto found = made_.find(key);
    if (found != made_.end()) return found->second;
    return made_.emplace(key, Make(p)).first->second;
  }

  // Threads may execute at the same time, each with scratch of its own.
  void Execute(const Executable& e, const Operands& operands, float* c, std::byte* work) {
    omp_set_num_threads(1);
    // The interface has no constant memory; operands are only read.
    dnnl::memory src(e.a, engine_, const_cast<uint16_t*>(operands.a));
    dnnl::memory weights(e.b, engine_, const_cast<uint16_t*>(operands.b));
    dnnl::memory out(e.c, engine_, c);
    dnnl::memory space(e.scratch, engine_, work);
    e.primitive.execute(stream_, {{DNNL_ARG_SRC, src},
                                  {DNNL_ARG_WEIGHTS, weights},
                                  {DNNL_ARG_DST, out},
                                  {DNNL_ARG_SCRATCHPAD, space}});
  }

  // Workspace of one product.
  std::vector<uint16_t> packed_a, packed_b;
  std::vector<const Executable*> plan;
  std::vector<std::byte> scratch;

 private:
  using Key = std::array<int64_t, 9>;

  static int64_t Bits(float value) {
    int32_t bits = 0;
    static_assert(sizeof bits == sizeof value);
    std::copy_n(reinterpret_cast<const char*>(&value), sizeof value,
                reinterpret_cast<char*>(&bits));
    return bits;
  }

  Executable Make(const MatrixProduct& p) const {
    using Desc = dnnl::memory::desc;
    using Type = dnnl::memory::data_type;
    using Dims = dnnl::memory::dims;
    omp_set_num_threads(1);  // A primitive is made for the number of threads that it will have.
    const auto strides = [](Transpose transpose, int64_t ld) {
      return transpose == Transpose::kYes ? Dims{1, ld} : Dims{ld, 1};
    };
    const Desc a({p.m, p.k}, Type::bf16, strides(p.transpose_a, p.lda));
    const Desc b({p.k, p.n}, Type::bf16, strides(p.transpose_b, p.ldb));
    const Desc c({p.m, p.n}, Type::f32, Dims{p.ldc, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (p.alpha != 1) attributes.set_output_scales(0, {p.alpha});
    if (p.beta != 0) {
      dnnl::post_ops sum;
      sum.append_sum(p.beta);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes,
                                                   engine_);
    return {dnnl::matmul(description), a, b, c, description.scratchpad_desc()};
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  std::map<Key, Executable> made_;
};

bool ProcessorMultipliesBfloat16() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (isa & wanted) == wanted;
}

MatrixProducts::MatrixProducts(ProductPrecision precision, const SimdKernels& kernels,
                               ThreadPool* pool)
    : precision_(precision), kernels_(kernels), pool_(pool) {
  if (precision == ProductPrecision::kBfloat16) {
    SINKFORGE_CHECK(ProcessorMultipliesBfloat16());
    library_ = std::make_unique<Bfloat16Library>();
  }
}

MatrixProducts::~MatrixProducts() = default;

// `part_of(packed, i)` is part i of the product whose operands lie packed; the parts may run at the
// same time.
template <typename PartOf>
void MatrixProducts::RunInBfloat16(const MatrixProduct& product, int64_t parts,
                                   const PartOf& part_of) {
  const auto pack = [&](const Stored& stored, const float* from, int64_t ld,
                        std::vector<uint16_t>* to) {
    uint16_t* start = GrowTo(stored.rows * stored.cols, to);
    ForRanges(pool_, stored.rows, stored.cols, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        kernels_.to_bfloat16(from + row * ld, stored.cols, start + row * stored.cols);
      }
    });
    return start;
  };
  const Stored a = StoredA(product);
  const Stored b = StoredB(product);
  const uint16_t* packed_a = pack(a, product.a, product.lda, &library_->packed_a);
  const uint16_t* packed_b = product.b == product.a
                                 ? packed_a  // a matrix times its transpose
                                 : pack(b, product.b, product.ldb, &library_->packed_b);
  MatrixProduct packed = product;
  packed.lda = a.cols;
  packed.ldb = b.cols;
  // Primitives are looked up, and scratch is made, before the threads start.
  std::vector<const Bfloat16Library::Executable*>& plan = library_->plan;
  plan.clear();
  int64_t scratch = 0;
  for (int64_t i = 0; i < parts; ++i) {
    plan.push_back(&library_->Find(part_of(packed, i)));
    scratch = std::max(scratch, static_cast<int64_t>(plan.back()->scratch.get_size()));
  }
  scratch = (scratch / 64 + 1) * 64;  // Threads write to lines of their own.
  std::byte* space = GrowTo(scratch * pool_->threads(), &library_->scratch);
  pool_->Run(parts, [&](int64_t i, int thread) {
    const MatrixProduct part = part_of(packed, i);
    library_->Execute(*plan[static_cast<size_t>(i)],
                      {packed_a + (part.a - packed.a), packed_b + (part.b - packed.b)}, part.c,
                      space + thread * scratch);
  });
}

void MatrixProducts::Run(const MatrixProduct& product) {
  if (product.m == 0 || product.n == 0) return;
  switch (precision_) {
    case ProductPrecision::kFloat32:
      return RunInFloat32(product);
    case ProductPrecision::kBfloat16: {
      const Slicing slicing(product, *pool_);
      return RunInBfloat16(
          product, slicing.slices,
          [&](const MatrixProduct& packed, int64_t slice) { return slicing.Part(packed, slice); });
    }
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
    RunInBfloat16(product, blocks, block_of);
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

int64_t MatrixProducts::WorkspaceBytes(int64_t a_elements, int64_t b_elements) const {
  switch (precision_) {
    case ProductPrecision::kFloat32:
      return 0;
    case ProductPrecision::kBfloat16:
      return (a_elements + b_elements) * SizeOf(DType::kBF16);
    case ProductPrecision::kBfloat16Emulated:
      return (a_elements + b_elements) * SizeOf(DType::kF32);
  }
  return 0;
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
