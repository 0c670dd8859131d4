// A product is cut over the threads by the longer side of C. The operand that belongs to that side
// is rounded by the thread that needs it, a block at a time, which the product then finds in the
// cache; the other one is rounded whole before. A block is some of C's rows or columns where they
// outnumber the terms of a sum, and else some of the terms: a gradient's sums over the positions
// are the longest, and the library transposes a short operand faster than a long one.
//
// Bytes moved: the operand in blocks is read once as float32; the other one is read once, written
// and read again for each block at half the size; C is written once, and read and written once for
// each later block of terms.
#include "kernels/cpu/bfloat16_products.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <map>

#include "kernels/cpu/parallel_ranges.h"
#include "kernels/cpu/workspace.h"
#include "kernels/status.h"
#include "kernels/tensor.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace sinkforge::kernels {
namespace {

// Rows, columns or terms of a block: of 1024 elements each, a block fills a second-level cache.
constexpr int64_t kBlock = 512;
// Elements between two threads' blocks are whole cache lines.
constexpr int64_t kLineElements = 32;

int64_t Blocks(int64_t size) { return (size + kBlock - 1) / kBlock; }

}  // namespace

bool ProcessorMultipliesBfloat16() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (isa & wanted) == wanted;
}

// Primitives of oneDNN's matmul, one for each shape, made at their first use.
class Bfloat16Products::Library {
 public:
  Library() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

  struct Executable {
    dnnl::matmul primitive;
    dnnl::memory::desc a, b, c, scratch;
  };

  // For a product whose lda and ldb are those of its rounded operands.
  const Executable& Find(const MatrixProduct& p) {
    const int transposes =
        (p.transpose_a == Transpose::kYes ? 1 : 0) + (p.transpose_b == Transpose::kYes ? 2 : 0);
    const Key key = {p.m,
                     p.n,
                     p.k,
                     p.lda,
                     p.ldb,
                     p.ldc,
                     transposes,
                     std::bit_cast<int32_t>(p.alpha),
                     std::bit_cast<int32_t>(p.beta)};
    const auto found = made_.find(key);
    if (found != made_.end()) return found->second;
    return made_.emplace(key, Make(p)).first->second;
  }

  // Before the threads run what is in the plan.
  void ReserveScratch(int threads) {
    scratch_each_ = 0;
    for (const Executable* executable : plan) {
      scratch_each_ = std::max(scratch_each_, static_cast<int64_t>(executable->scratch.get_size()));
    }
    scratch_each_ = (scratch_each_ / 64 + 1) * 64;  // Threads write to lines of their own.
    GrowTo(scratch_each_ * threads, &scratch_);
  }

  // Threads may execute at the same time.
  void Execute(const Executable& e, const uint16_t* a, const uint16_t* b, float* c, int thread) {
    omp_set_num_threads(1);
    // The interface has no constant memory; operands are only read.
    dnnl::memory src(e.a, engine_, const_cast<uint16_t*>(a));
    dnnl::memory weights(e.b, engine_, const_cast<uint16_t*>(b));
    dnnl::memory out(e.c, engine_, c);
    dnnl::memory space(e.scratch, engine_, scratch_.data() + thread * scratch_each_);
    e.primitive.execute(stream_, {{DNNL_ARG_SRC, src},
                                  {DNNL_ARG_WEIGHTS, weights},
                                  {DNNL_ARG_DST, out},
                                  {DNNL_ARG_SCRATCHPAD, space}});
  }

  std::vector<const Executable*> plan;  // of the product under way

 private:
  using Key = std::array<int64_t, 9>;

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
  std::vector<std::byte> scratch_;
  int64_t scratch_each_ = 0;
};

// How a product is cut: part i is one thread's, and its blocks follow each other.
struct Bfloat16Products::Plan {
  bool by_rows = false;  // else by columns: of C, and of the operand that is rounded in blocks
  int64_t size = 0;      // of the side that is cut
  int64_t parts = 1;
  int64_t blocks = 1;  // of the terms, in each part

  MatrixProduct BlockOf(const MatrixProduct& p, int64_t part, int64_t block) const {
    const int64_t begin = PartBegin(size, part, parts);
    const int64_t end = PartBegin(size, part + 1, parts);
    const MatrixProduct side = by_rows ? RowsOf(p, begin, end) : ColumnsOf(p, begin, end);
    return TermsOf(side, PartBegin(p.k, block, blocks), PartBegin(p.k, block + 1, blocks));
  }
  // Of the largest block; the others are shorter.
  int64_t BlockElements(int64_t k) const {
    const auto longest = [](int64_t whole, int64_t pieces) {
      return std::min(whole, (whole / pieces / kPartMultiple + 2) * kPartMultiple);
    };
    const int64_t elements = longest(size, parts) * longest(k, blocks);
    return (elements / kLineElements + 1) * kLineElements;
  }
};

Bfloat16Products::Bfloat16Products(const SimdKernels& kernels, ThreadPool* pool)
    : kernels_(kernels), pool_(pool), library_(std::make_unique<Library>()) {
  SINKFORGE_CHECK(ProcessorMultipliesBfloat16());
}

Bfloat16Products::~Bfloat16Products() = default;

Bfloat16Products::Plan Bfloat16Products::PlanOf(const ProductShape& shape) const {
  Plan plan;
  plan.by_rows = shape.m >= shape.n;
  plan.size = plan.by_rows ? shape.m : shape.n;
  const int64_t threads = IsSmall(shape) ? 1 : pool_->threads();
  if (shape.k > plan.size) {
    plan.parts = threads;
    plan.blocks = PartsAtMost(shape.k, Blocks(shape.k));
  } else {
    // As many for each thread.
    plan.parts = (Blocks(plan.size) + threads - 1) / threads * threads;
  }
  plan.parts = PartsAtMost(plan.size, plan.parts);
  return plan;
}

void Bfloat16Products::RoundBlock(const Stored& stored, const float* from, int64_t ld,
                                  uint16_t* to) const {
  for (int64_t row = 0; row < stored.rows; ++row) {
    kernels_.to_bfloat16(from + row * ld, stored.cols, to + row * stored.cols);
  }
}

// On all threads.
const uint16_t* Bfloat16Products::RoundWhole(const Stored& stored, const float* from, int64_t ld) {
  uint16_t* start = GrowTo(stored.elements(), &whole_);
  ForRanges(pool_, stored.rows, stored.cols, [&](int64_t begin, int64_t end) {
    RoundBlock({end - begin, stored.cols}, from + begin * ld, ld, start + begin * stored.cols);
  });
  return start;
}

void Bfloat16Products::Run(const MatrixProduct& product) {
  const Plan plan = PlanOf(product);
  const Stored stored = plan.by_rows ? StoredB(product) : StoredA(product);
  const uint16_t* whole = plan.by_rows ? RoundWhole(stored, product.b, product.ldb)
                                       : RoundWhole(stored, product.a, product.lda);
  // The product with the whole operand's rounded stride, for where its blocks begin.
  MatrixProduct rounded = product;
  (plan.by_rows ? rounded.ldb : rounded.lda) = stored.cols;
  const int64_t block_elements = plan.BlockElements(product.k);
  uint16_t* own_blocks = GrowTo(block_elements * pool_->threads(), &blocks_);
  // Primitives are looked up, and scratch is made, before the threads start.
  library_->plan.clear();
  for (int64_t part = 0; part < plan.parts; ++part) {
    for (int64_t block = 0; block < plan.blocks; ++block) {
      MatrixProduct p = plan.BlockOf(rounded, part, block);
      const Stored own = plan.by_rows ? StoredA(p) : StoredB(p);
      SINKFORGE_CHECK(own.elements() <= block_elements);
      (plan.by_rows ? p.lda : p.ldb) = own.cols;
      library_->plan.push_back(&library_->Find(p));
    }
  }
  library_->ReserveScratch(pool_->threads());
  pool_->Run(plan.parts, [&](int64_t part, int thread) {
    uint16_t* own_rounded = own_blocks + thread * block_elements;
    for (int64_t block = 0; block < plan.blocks; ++block) {
      const MatrixProduct p = plan.BlockOf(product, part, block);
      const MatrixProduct in_whole = plan.BlockOf(rounded, part, block);
      const auto& executable = *library_->plan[static_cast<size_t>(part * plan.blocks + block)];
      if (plan.by_rows) {
        RoundBlock(StoredA(p), p.a, p.lda, own_rounded);
        library_->Execute(executable, own_rounded, whole + (in_whole.b - rounded.b), p.c, thread);
      } else {
        RoundBlock(StoredB(p), p.b, p.ldb, own_rounded);
        library_->Execute(executable, whole + (in_whole.a - rounded.a), own_rounded, p.c, thread);
      }
    }
  });
}

void Bfloat16Products::RunOwnTranspose(const MatrixProduct& product, int64_t parts,
                                       const PartOf& part_of) {
  SINKFORGE_CHECK(product.a == product.b && product.transpose_a != product.transpose_b);
  const Stored stored = StoredA(product);
  const uint16_t* operand = RoundWhole(stored, product.a, product.lda);
  MatrixProduct rounded = product;
  rounded.lda = rounded.ldb = stored.cols;
  library_->plan.clear();
  for (int64_t i = 0; i < parts; ++i) {
    library_->plan.push_back(&library_->Find(part_of(rounded, i)));
  }
  library_->ReserveScratch(pool_->threads());
  pool_->Run(parts, [&](int64_t i, int thread) {
    const MatrixProduct part = part_of(rounded, i);
    library_->Execute(*library_->plan[static_cast<size_t>(i)], operand + (part.a - rounded.a),
                      operand + (part.b - rounded.b), part.c, thread);
  });
}

int64_t Bfloat16Products::WorkspaceBytes(std::span<const ProductShape> shapes) const {
  int64_t whole = 0;
  int64_t block = 0;
  for (const ProductShape& shape : shapes) {
    whole = std::max(whole, std::min(shape.m, shape.n) * shape.k);
    block = std::max(block, PlanOf(shape).BlockElements(shape.k));
  }
  return (whole + block * pool_->threads()) * SizeOf(DType::kBF16);
}

}  // namespace sinkforge::kernels
