// Parallel plan. Forward: one task a (sample, head, range of rows); where there are too few heads
// to fill the threads, the ranges are shorter. Backward: one task a (sample, key head), which runs
// all phases for its query heads in turn; where there are too few, the phases run one after the
// other, cut into ranges of rows and of keys, and dQ is added up from one partial sum a key range.
#include "kernels/cpu/cpu_attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/workspace.h"

namespace sinkforge::kernels {
namespace {

// Rows of a forward task: enough that packing the keys costs little beside the products; the rows'
// sums of 128 channels then take a quarter of a 1 MiB second-level cache.
constexpr int64_t kForwardRowsMax = 512;
// Tasks a thread, at least, where the work can be cut so small: evens out the triangle.
constexpr int64_t kTasksPerThread = 2;

SimdVariant VariantOf(const AttentionConfig& config) {
  switch (config.variant) {
    case AttentionVariant::kVanilla:
      return SimdVariant::kVanilla;
    case AttentionVariant::kSink:
      return SimdVariant::kSink;
    case AttentionVariant::kGated:
      break;
  }
  return config.gate == GateGranularity::kHead ? SimdVariant::kGatedHead
                                               : SimdVariant::kGatedElement;
}

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Offsets of sample b, head h in tensors of the shapes that backend.h gives.
struct HeadOffsets {
  HeadOffsets(const AttentionConfig& config, const AttentionShape& shape, int64_t b, int64_t h) {
    const int64_t row0 = b * shape.sequence;
    const int64_t kv_head = h / (shape.heads / shape.kv_heads);
    q_stride = shape.heads * shape.head_dim;
    kv_stride = shape.kv_heads * shape.head_dim;
    q = row0 * q_stride + h * shape.head_dim;
    kv = row0 * kv_stride + kv_head * shape.head_dim;
    const bool by_head = config.gate == GateGranularity::kHead;
    gate_stride = by_head ? shape.heads : q_stride;
    gate = row0 * gate_stride + h * (by_head ? 1 : shape.head_dim);
    stat = (b * shape.heads + h) * shape.sequence;
  }
  int64_t q_stride, kv_stride, gate_stride;
  int64_t q, kv, gate;
  int64_t stat;  // in [B, H, T]
};

template <typename Task>
void FillTask(const AttentionConfig& config, const AttentionShape& shape, const HeadOffsets& at,
              Task* task) {
  task->variant = VariantOf(config);
  task->head_norm = config.head_norm == HeadNorm::kRms;
  task->epsilon = config.epsilon;
  task->head_dim = shape.head_dim;
  task->q_stride = at.q_stride;
  task->kv_stride = at.kv_stride;
  task->gate_stride = at.gate_stride;
}

float* Offset(const Tensor& x, int64_t offset) {
  return x.empty() ? nullptr : x.as<float>() + offset;
}

}  // namespace

struct CpuAttention::ForwardPlan {
  int64_t row_tiles;  // of the sequence
  int64_t ranges;     // of rows, each a task for every sample and head
  int64_t rows_each;
  int64_t scratch;   // floats of scratch_ a thread
  int64_t partials;  // of partials_
};

struct CpuAttention::BackwardPlan {
  const AttentionConfig& config;
  const AttentionShape& shape;
  int64_t row_tiles;  // of the sequence
  int64_t key_ranges;
  bool by_head;         // one task a key head
  int64_t padded_rows;  // of the sequence
  int64_t matrix;       // padded_rows * padded head_dim
  int64_t part;         // floats of packed_ that one head needs: q, dU, D and key_ranges of dQ
  int64_t parts;        // that are held at once
  int64_t scratch;      // floats of scratch_ a thread
  int64_t partials;     // of partials_
};

CpuAttention::CpuAttention(const AttentionKernels& kernels, AttentionStatistics statistics,
                           ThreadPool* pool)
    : kernels_(kernels),
      statistics_(statistics == AttentionStatistics::kImportance ? 1 : 0),
      pool_(pool) {}

CpuAttention::ForwardPlan CpuAttention::PlanForward(const AttentionShape& shape) const {
  const int64_t row_tiles = CeilDivide(shape.sequence, kAttentionRowTile);
  const int64_t pairs = shape.batch * shape.heads;
  const int64_t ranges_wanted = CeilDivide(kTasksPerThread * pool_->threads(), pairs);
  const int64_t tiles_each =
      std::clamp<int64_t>(row_tiles / ranges_wanted, 1, kForwardRowsMax / kAttentionRowTile);
  const int64_t rows_each = tiles_each * kAttentionRowTile;
  return {.row_tiles = row_tiles,
          .ranges = CeilDivide(row_tiles, tiles_each),
          .rows_each = rows_each,
          .scratch = AttentionForwardScratch(shape.head_dim, std::min(rows_each, shape.sequence)),
          .partials = pairs * row_tiles};
}

CpuAttention::BackwardPlan CpuAttention::PlanBackward(const AttentionConfig& config,
                                                      const AttentionShape& shape) const {
  static_assert(kAttentionRowTile == kAttentionBackwardKeys);
  const int64_t row_tiles = CeilDivide(shape.sequence, kAttentionRowTile);
  const int64_t kv_pairs = shape.batch * shape.kv_heads;
  const int64_t wanted = kTasksPerThread * pool_->threads();
  const bool by_head = pool_->threads() == 1 || kv_pairs >= wanted || row_tiles == 1;
  const int64_t key_ranges = by_head ? 1 : std::min(row_tiles, CeilDivide(wanted, kv_pairs));
  const int64_t padded_rows = AttentionPaddedRows(shape.sequence);
  const int64_t matrix = padded_rows * AttentionPaddedDim(shape.head_dim);
  return {.config = config,
          .shape = shape,
          .row_tiles = row_tiles,
          .key_ranges = key_ranges,
          .by_head = by_head,
          .padded_rows = padded_rows,
          .matrix = matrix,
          .part = (2 + key_ranges) * matrix + padded_rows,
          .parts = by_head ? pool_->threads() : shape.batch * shape.heads,
          .scratch = AttentionBackwardScratch(shape.head_dim),
          .partials = shape.batch * shape.heads * row_tiles};
}

int64_t CpuAttention::WorkspaceBytes(const AttentionConfig& config,
                                     const AttentionShape& shape) const {
  const ForwardPlan forward = PlanForward(shape);
  const BackwardPlan backward = PlanBackward(config, shape);
  const int64_t floats = std::max(forward.scratch, backward.scratch) * pool_->threads() +
                         backward.part * backward.parts;
  const int64_t doubles = std::max(forward.partials, backward.partials);
  return floats * SizeOf(DType::kF32) + doubles * SizeOf(DType::kF64);
}

void CpuAttention::Forward(const AttentionConfig& config, const AttentionShape& shape,
                           const AttentionForwardArgs& args) {
  const auto [row_tiles, ranges, rows_each, scratch, partials] = PlanForward(shape);
  const int64_t pairs = shape.batch * shape.heads;
  GrowTo(scratch * pool_->threads(), &scratch_);
  GrowTo(partials, &partials_);

  pool_->Run(pairs * ranges, [&](int64_t index, int thread) {
    // The last rows see the most keys: they go first.
    const int64_t range = ranges - 1 - index / pairs;
    const int64_t b = index % pairs / shape.heads;
    const int64_t h = index % pairs % shape.heads;
    const HeadOffsets at(config, shape, b, h);
    AttentionForwardTask task;
    FillTask(config, shape, at, &task);
    task.row_begin = range * rows_each;
    task.row_end = std::min(shape.sequence, task.row_begin + rows_each);
    task.q = Offset(args.q, at.q);
    task.k = Offset(args.k, at.kv);
    task.v = Offset(args.v, at.kv);
    if (config.variant == AttentionVariant::kSink) task.sink = args.sinks.as<float>()[h];
    if (config.variant == AttentionVariant::kGated) {
      task.gate_logits = Offset(args.gate_logits, at.gate);
      if (task.head_norm) task.normed = Offset(args.normed, at.q);
    }
    task.out = Offset(args.out, at.q);
    task.lse = Offset(args.lse, at.stat);
    task.gate = Offset(args.gate, at.stat);
    if (task.head_norm) task.head_rstd = Offset(args.head_rstd, at.stat);
    task.gate_partial = partials_.data() + (b * shape.heads + h) * row_tiles;
    task.scratch = scratch_.data() + thread * scratch;
    kernels_.forward[statistics_](task);
  });

  if (statistics_ == 0) return;
  for (int64_t h = 0; h < shape.heads; ++h) {
    double sum = 0;
    for (int64_t b = 0; b < shape.batch; ++b) {
      const double* partial = partials_.data() + (b * shape.heads + h) * row_tiles;
      for (int64_t i = 0; i < row_tiles; ++i) sum += partial[i];
    }
    args.importance_sum.as<double>()[h] += sum;
  }
}

AttentionBackwardTask CpuAttention::BackwardTask(const AttentionBackwardArgs& args,
                                                 const BackwardPlan& plan, int64_t b, int64_t h) {
  const AttentionShape& shape = plan.shape;
  const HeadOffsets at(plan.config, shape, b, h);
  AttentionBackwardTask task;
  FillTask(plan.config, shape, at, &task);
  task.exact_lse = plan.config.lse_gradient == LseGradient::kExact;
  task.accumulate_kv = h % (shape.heads / shape.kv_heads) != 0;
  task.importance_gradient = static_cast<float>(args.importance_gradient.as<double>()[h]);
  task.sequence = shape.sequence;
  task.q = Offset(args.q, at.q);
  task.k = Offset(args.k, at.kv);
  task.v = Offset(args.v, at.kv);
  task.out = Offset(args.out, at.q);
  task.d_out = Offset(args.d_out, at.q);
  task.lse = Offset(args.lse, at.stat);
  task.gate = Offset(args.gate, at.stat);
  task.d_q = Offset(args.d_q, at.q);
  task.d_k = Offset(args.d_k, at.kv);
  task.d_v = Offset(args.d_v, at.kv);
  if (task.head_norm) task.head_rstd = Offset(args.head_rstd, at.stat);
  if (plan.config.variant == AttentionVariant::kSink) {
    task.sink = args.sinks.as<float>()[h];
    task.d_sink_partial = partials_.data() + (b * shape.heads + h) * plan.row_tiles;
  }
  if (plan.config.variant == AttentionVariant::kGated) {
    task.gate_logits = Offset(args.gate_logits, at.gate);
    task.d_gate_logits = Offset(args.d_gate_logits, at.gate);
    if (task.head_norm) task.normed = Offset(args.normed, at.q);
  }
  return task;
}

namespace {

void GivePackedPart(float* part, int64_t matrix, int64_t padded_rows, AttentionBackwardTask* task) {
  task->packed_q = part;
  task->packed_du = part + matrix;
  task->delta = part + 2 * matrix;
  task->dq_sum = task->delta + padded_rows;
}

}  // namespace

void CpuAttention::BackwardByHead(const AttentionBackwardArgs& args, const BackwardPlan& plan) {
  const AttentionShape& shape = plan.shape;
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t scratch = plan.scratch;
  pool_->Run(shape.batch * shape.kv_heads, [&](int64_t index, int thread) {
    for (int64_t member = 0; member < group; ++member) {
      AttentionBackwardTask task =
          BackwardTask(args, plan, index / shape.kv_heads, index % shape.kv_heads * group + member);
      GivePackedPart(packed_.data() + thread * plan.part, plan.matrix, plan.padded_rows, &task);
      task.scratch = scratch_.data() + thread * scratch;
      kernels_.backward_rows[statistics_](task, 0, shape.sequence);
      kernels_.backward_keys[statistics_](task, 0, shape.sequence);
      kernels_.backward_queries(task, 1, plan.matrix, 0, shape.sequence);
    }
  });
}

void CpuAttention::BackwardByKeyRange(const AttentionBackwardArgs& args, const BackwardPlan& plan) {
  const AttentionShape& shape = plan.shape;
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t pairs = shape.batch * shape.heads;
  const int64_t scratch = plan.scratch;
  const auto task_of = [&](int64_t pair) {
    AttentionBackwardTask task = BackwardTask(args, plan, pair / shape.heads, pair % shape.heads);
    GivePackedPart(packed_.data() + pair * plan.part, plan.matrix, plan.padded_rows, &task);
    return task;
  };
  const auto run_by_rows = [&](const auto& body) {
    pool_->Run(pairs * plan.row_tiles, [&](int64_t index, int) {
      const int64_t begin = index % plan.row_tiles * kAttentionRowTile;
      body(task_of(index / plan.row_tiles), begin,
           std::min(shape.sequence, begin + kAttentionRowTile));
    });
  };
  run_by_rows([&](const AttentionBackwardTask& task, int64_t begin, int64_t end) {
    kernels_.backward_rows[statistics_](task, begin, end);
  });
  pool_->Run(shape.batch * shape.kv_heads * plan.key_ranges, [&](int64_t index, int thread) {
    // Early keys are seen by more rows: boundaries cut the triangle into equal areas.
    const int64_t range = index % plan.key_ranges;
    const int64_t kv_pair = index / plan.key_ranges;
    const auto boundary = [&](int64_t i) {
      const double share = static_cast<double>(i) / static_cast<double>(plan.key_ranges);
      const double tiles = static_cast<double>(plan.row_tiles) * (1.0 - std::sqrt(1.0 - share));
      return std::min(shape.sequence,
                      static_cast<int64_t>(std::llround(tiles)) * kAttentionBackwardKeys);
    };
    for (int64_t member = 0; member < group; ++member) {
      AttentionBackwardTask task = task_of(kv_pair * group + member);
      task.dq_sum += range * plan.matrix;
      task.scratch = scratch_.data() + thread * scratch;
      kernels_.backward_keys[statistics_](task, boundary(range), boundary(range + 1));
    }
  });
  run_by_rows([&](const AttentionBackwardTask& task, int64_t begin, int64_t end) {
    kernels_.backward_queries(task, plan.key_ranges, plan.matrix, begin, end);
  });
}

void CpuAttention::Backward(const AttentionConfig& config, const AttentionShape& shape,
                            const AttentionBackwardArgs& args) {
  const BackwardPlan plan = PlanBackward(config, shape);
  GrowTo(plan.scratch * pool_->threads(), &scratch_);
  GrowTo(plan.partials, &partials_);
  GrowTo(plan.part * plan.parts, &packed_);
  if (plan.by_head) {
    BackwardByHead(args, plan);
  } else {
    BackwardByKeyRange(args, plan);
  }
  if (config.variant != AttentionVariant::kSink) return;
  for (int64_t h = 0; h < shape.heads; ++h) {
    double sum = 0;
    for (int64_t b = 0; b < shape.batch; ++b) {
      const double* partial = partials_.data() + (b * shape.heads + h) * plan.row_tiles;
      for (int64_t i = 0; i < plan.row_tiles; ++i) sum += partial[i];
    }
    args.d_sinks.as<float>()[h] += static_cast<float>(sum);
  }
}

}  // namespace sinkforge::kernels
