// Shape rules of every op; see backend.h for the shapes themselves.
#include "kernels/op_checks.h"

namespace sinkforge::kernels {
namespace {

void CheckTensor(const Tensor& x, DType dtype, int64_t elements) {
  SINKFORGE_CHECK(!x.empty());
  SINKFORGE_CHECK(x.dtype == dtype);
  SINKFORGE_CHECK(x.elements() == elements);
}

void CheckAttentionShape(const AttentionConfig& config, const AttentionShape& shape) {
  SINKFORGE_CHECK(shape.batch > 0 && shape.sequence > 0 && shape.heads > 0 && shape.head_dim > 0);
  SINKFORGE_CHECK(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0);
  SINKFORGE_CHECK(config.variant != AttentionVariant::kSink || config.head_norm == HeadNorm::kNone);
}

int64_t GateLogitElements(const AttentionConfig& config, const AttentionShape& shape) {
  const int64_t rows = shape.batch * shape.sequence;
  return rows * shape.heads * (config.gate == GateGranularity::kHead ? 1 : shape.head_dim);
}

}  // namespace

MatrixShape MatrixOf(const Tensor& x) {
  SINKFORGE_CHECK(x.rank >= 1);
  const int64_t cols = x.dim(x.rank - 1);
  SINKFORGE_CHECK(cols > 0);
  return {.rows = x.elements() / cols, .cols = cols};
}

LinearShape CheckLinear(const Tensor& x, const Tensor& w, const Tensor& y) {
  const MatrixShape xs = MatrixOf(x);
  const MatrixShape ws = MatrixOf(w);
  const MatrixShape ys = MatrixOf(y);
  SINKFORGE_CHECK(xs.cols == ws.cols && ys.rows == xs.rows && ys.cols == ws.rows);
  return {.rows = xs.rows, .inputs = xs.cols, .outputs = ws.rows};
}

void CheckEmbedding(const Tensor& tokens, const Tensor& table, const Tensor& rows) {
  SINKFORGE_CHECK(tokens.dtype == DType::kI32);
  // The gradient of a table is kept as a parameter is.
  SINKFORGE_CHECK(table.dtype == rows.dtype || table.dtype == StatisticDType(rows.dtype));
  SINKFORGE_CHECK(MatrixOf(rows).cols == MatrixOf(table).cols);
  SINKFORGE_CHECK(MatrixOf(rows).rows == tokens.elements());
}

DType StatisticDType(DType activation) {
  return activation == DType::kBF16 ? DType::kF32 : activation;
}

void CheckRmsNorm(const Tensor& x, const Tensor& y, const Tensor& rstd) {
  CheckSameElements(x, y);
  SINKFORGE_CHECK(MatrixOf(x).cols == MatrixOf(y).cols);
  CheckTensor(rstd, StatisticDType(x.dtype), MatrixOf(x).rows);
}

void CheckRopeNorm(const Tensor& x, const Tensor& rstd, int64_t sequence, int64_t heads) {
  const MatrixShape xs = MatrixOf(x);
  SINKFORGE_CHECK(sequence > 0 && heads > 0 && xs.rows % sequence == 0);
  SINKFORGE_CHECK(xs.cols % heads == 0 && (xs.cols / heads) % 2 == 0);
  CheckTensor(rstd, StatisticDType(x.dtype), xs.rows * heads);
}

void CheckAttentionForward(const AttentionConfig& config, const AttentionShape& shape,
                           const AttentionForwardArgs& args, DType dtype) {
  CheckAttentionShape(config, shape);
  const int64_t rows = shape.batch * shape.sequence;
  const int64_t width = shape.heads * shape.head_dim;
  const int64_t kv_width = shape.kv_heads * shape.head_dim;
  CheckTensor(args.q, dtype, rows * width);
  CheckTensor(args.k, dtype, rows * kv_width);
  CheckTensor(args.v, dtype, rows * kv_width);
  CheckTensor(args.out, dtype, rows * width);
  const DType statistic = StatisticDType(dtype);
  CheckTensor(args.lse, statistic, rows * shape.heads);
  CheckTensor(args.gate, statistic, rows * shape.heads);
  CheckTensor(args.importance_sum, DType::kF64, shape.heads);
  if (config.variant == AttentionVariant::kSink) CheckTensor(args.sinks, statistic, shape.heads);
  if (config.variant == AttentionVariant::kGated) {
    CheckTensor(args.gate_logits, dtype, GateLogitElements(config, shape));
  }
  if (config.head_norm == HeadNorm::kRms) {
    CheckTensor(args.head_rstd, statistic, rows * shape.heads);
    if (config.variant == AttentionVariant::kGated) CheckTensor(args.normed, dtype, rows * width);
  }
}

void CheckAttentionBackward(const AttentionConfig& config, const AttentionShape& shape,
                            const AttentionBackwardArgs& args, DType dtype) {
  AttentionForwardArgs forward;
  forward.q = args.q;
  forward.k = args.k;
  forward.v = args.v;
  forward.sinks = args.sinks;
  forward.gate_logits = args.gate_logits;
  forward.out = args.out;
  forward.lse = args.lse;
  forward.gate = args.gate;
  forward.normed = args.normed;
  forward.head_rstd = args.head_rstd;
  forward.importance_sum = args.importance_gradient;  // the same shape and dtype
  CheckAttentionForward(config, shape, forward, dtype);
  CheckSameElements(args.d_out, args.q);
  CheckSameElements(args.d_q, args.q);
  CheckSameElements(args.d_k, args.k);
  CheckSameElements(args.d_v, args.v);
  if (config.variant == AttentionVariant::kSink) {
    CheckTensor(args.d_sinks, StatisticDType(dtype), shape.heads);
  }
  if (config.variant == AttentionVariant::kGated) {
    CheckTensor(args.d_gate_logits, dtype, GateLogitElements(config, shape));
  }
}

void CheckGateArgmaxCounts(const Tensor& gate, const Tensor& counts) {
  SINKFORGE_CHECK(!gate.empty() && gate.rank == 3);
  CheckTensor(counts, DType::kF64, gate.dim(1));
}

void CheckSameElements(const Tensor& a, const Tensor& b) {
  SINKFORGE_CHECK(!a.empty() && !b.empty());
  SINKFORGE_CHECK(a.dtype == b.dtype && a.elements() == b.elements());
}

void CheckSwiGlu(const Tensor& gate, const Tensor& up, const Tensor& act) {
  CheckSameElements(up, gate);
  CheckSameElements(act, gate);
}

void CheckSwiGluBackward(const SwiGluBackwardArgs& args) {
  CheckSwiGlu(args.gate, args.up, args.act);
  CheckSwiGlu(args.d_gate, args.d_up, args.d_act);
  CheckSameElements(args.d_gate, args.gate);
}

void CheckCrossEntropy(const CrossEntropyArgs& args) {
  const MatrixShape xs = MatrixOf(args.x);
  const MatrixShape ws = MatrixOf(args.w);
  SINKFORGE_CHECK(xs.cols == ws.cols);
  CheckTensor(args.targets, DType::kI32, xs.rows);
  CheckTensor(args.losses, StatisticDType(args.x.dtype), xs.rows);
  SINKFORGE_CHECK(args.d_x.empty() == args.d_w.empty());
  if (!args.d_x.empty()) {
    CheckSameElements(args.d_x, args.x);
    CheckTensor(args.d_w, StatisticDType(args.w.dtype), args.w.elements());
  }
}

void CheckAdamW(const AdamWArgs& args) {
  CheckSameElements(args.parameter, args.gradient);
  CheckSameElements(args.parameter, args.m);
  CheckSameElements(args.parameter, args.v);
  SINKFORGE_CHECK(args.step >= 1);
}

void CheckMuon(const MuonArgs& args) {
  SINKFORGE_CHECK(args.parameter.rank == 2);
  CheckSameElements(args.parameter, args.gradient);
  CheckSameElements(args.parameter, args.momentum_buffer);
}

}  // namespace sinkforge::kernels
