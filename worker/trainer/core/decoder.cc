// Decoder: the forward of model.cc over rows that are one sequence's newest positions.
#include "worker/trainer/core/decoder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "worker/trainer/core/decode_attention.h"

namespace sinkforge::trainer {

using kernels::AttentionVariant;
using kernels::DType;
using kernels::GateGranularity;
using kernels::Result;
using kernels::Status;
using kernels::Tensor;
using kernels::WriteMode;

namespace {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();  // of every norm, as in model.cc

// `count` rows of a tensor, from row `first`.
Tensor RowsOf(Tensor tensor, int64_t first, int64_t count) {
  if (tensor.empty()) return tensor;
  const int64_t row_bytes = tensor.bytes() / tensor.dim(0);
  tensor.data = static_cast<char*>(tensor.data) + first * row_bytes;
  tensor.shape[0] = count;
  return tensor;
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, const DecoderPlan& plan, const ParameterSet* parameters,
                 kernels::Backend* backend)
    : config_(config),
      plan_(plan),
      parameters_(parameters),
      backend_(backend),
      arena_("decoder", backend) {
  attention_.variant = config.attention;
  attention_.gate = config.gate;
  attention_.head_norm = config.head_norm;
  attention_.epsilon = std::numeric_limits<float>::epsilon();
}

Result<std::unique_ptr<Decoder>> Decoder::Create(const ModelConfig& config, const DecoderPlan& plan,
                                                 const ParameterSet* parameters,
                                                 kernels::Backend* backend) {
  SINKFORGE_CHECK(plan.positions_max >= 1 && plan.rows_max >= 1);
  std::unique_ptr<Decoder> decoder(new Decoder(config, plan, parameters, backend));
  if (Status status = decoder->Plan(); !status.ok()) return status;
  return decoder;
}

Status Decoder::Plan() {
  const DType dtype = backend_->compute_dtype();
  const int64_t rows = plan_.rows_max;
  const int64_t width = config_.width;
  std::vector<std::pair<Tensor*, size_t>> wanted;
  const auto add = [&](std::string name, Tensor* tensor, DType type,
                       std::initializer_list<int64_t> dims) {
    wanted.emplace_back(tensor, arena_.Add(std::move(name), type, dims));
  };
  add("tokens", &scratch_.tokens, DType::kI32, {rows});
  add("x", &scratch_.x, dtype, {rows, width});
  add("norm", &scratch_.norm, dtype, {rows, width});
  add("rstd", &scratch_.rstd, dtype, {rows});
  add("q", &scratch_.q, dtype, {rows, width});
  if (config_.attention == AttentionVariant::kGated) {
    const int64_t gates = config_.gate == GateGranularity::kHead ? config_.heads : width;
    add("gate_logits", &scratch_.gate_logits, dtype, {rows, gates});
  }
  add("attn_out", &scratch_.attn_out, dtype, {rows, width});
  add("fc", &scratch_.fc, dtype, {rows, config_.mlp_width});
  if (config_.mlp == MlpKind::kSwiGlu) add("up", &scratch_.up, dtype, {rows, config_.mlp_width});
  add("last", &scratch_.last, dtype, {1, width});
  add("logits", &scratch_.logits, dtype, {1, config_.vocab_size});
  add("scores", &scratch_.scores, dtype, {plan_.positions_max});
  caches_.resize(static_cast<size_t>(config_.layers));
  for (size_t layer = 0; layer < caches_.size(); ++layer) {
    const std::string prefix = "layer" + std::to_string(layer) + "/";
    add(prefix + "keys", &caches_[layer].keys, dtype, {plan_.positions_max, width});
    add(prefix + "values", &caches_[layer].values, dtype, {plan_.positions_max, width});
  }
  if (Status status = arena_.Allocate(); !status.ok()) return status;
  for (const auto& [tensor, index] : wanted) *tensor = arena_.at(index);
  return Status();
}

void Decoder::Feed(std::span<const int32_t> tokens) {
  SINKFORGE_CHECK(static_cast<int64_t>(tokens.size()) <= plan_.positions_max - positions_);
  while (!tokens.empty()) {
    const size_t rows = std::min(tokens.size(), static_cast<size_t>(plan_.rows_max));
    FeedRows(tokens.first(rows));
    tokens = tokens.subspan(rows);
  }
}

void Decoder::FeedRows(std::span<const int32_t> tokens) {
  const auto rows = static_cast<int64_t>(tokens.size());
  const Tensor x = RowsOf(scratch_.x, 0, rows);
  const Tensor rstd = RowsOf(scratch_.rstd, 0, rows);
  backend_->CopyFromHost(RowsOf(scratch_.tokens, 0, rows), tokens.data());
  backend_->Embedding(RowsOf(scratch_.tokens, 0, rows), parameters_->wte().value, x);
  backend_->RmsNorm(x, kEpsilon, x, rstd);
  for (size_t layer = 0; layer < caches_.size(); ++layer) {
    Attend(layer, rows);
    Mlp(layer, rows);
  }
  backend_->RmsNorm(RowsOf(scratch_.x, rows - 1, 1), kEpsilon, scratch_.last, RowsOf(rstd, 0, 1));
  positions_ += rows;
}

void Decoder::Attend(size_t layer, int64_t rows) {
  const LayerWeights& w = parameters_->layers()[layer];
  const Tensor x = RowsOf(scratch_.x, 0, rows);
  const Tensor norm = RowsOf(scratch_.norm, 0, rows);
  backend_->RmsNorm(x, kEpsilon, norm, RowsOf(scratch_.rstd, 0, rows));
  backend_->Linear(norm, w.c_q.value, RowsOf(scratch_.q, 0, rows), WriteMode::kAssign);
  // Keys and values go to their place in the cache.
  backend_->Linear(norm, w.c_k.value, RowsOf(caches_[layer].keys, positions_, rows),
                   WriteMode::kAssign);
  backend_->Linear(norm, w.c_v.value, RowsOf(caches_[layer].values, positions_, rows),
                   WriteMode::kAssign);
  if (!scratch_.gate_logits.empty()) {
    backend_->Linear(norm, w.c_gate.value, RowsOf(scratch_.gate_logits, 0, rows),
                     WriteMode::kAssign);
  }
  if (backend_->compute_dtype() == DType::kF64) {
    AttendAs<double>(layer, rows);
  } else {
    AttendAs<float>(layer, rows);
  }
  backend_->Linear(RowsOf(scratch_.attn_out, 0, rows), w.c_proj.value, x, WriteMode::kAccumulate);
}

template <typename T>
void Decoder::AttendAs(size_t layer, int64_t rows) {
  const DecodeShape shape{rows, positions_, config_.heads, config_.head_dim()};
  const RotationOptions rotation{config_.rope_base, kEpsilon};
  RopeNormAt(shape, rotation, scratch_.q.as<T>());
  RopeNormAt(shape, rotation, RowsOf(caches_[layer].keys, positions_, rows).as<T>());
  DecodeAttentionArgs<T> args;
  args.q = scratch_.q.as<T>();
  args.keys = caches_[layer].keys.as<T>();
  args.values = caches_[layer].values.as<T>();
  args.sinks = parameters_->layers()[layer].sinks.value.as<T>();
  args.gate_logits = scratch_.gate_logits.as<T>();
  args.out = scratch_.attn_out.as<T>();
  args.scores = scratch_.scores.as<T>();
  DecodeAttention(attention_, shape, args);
}

void Decoder::Mlp(size_t layer, int64_t rows) {
  const LayerWeights& w = parameters_->layers()[layer];
  const Tensor x = RowsOf(scratch_.x, 0, rows);
  const Tensor norm = RowsOf(scratch_.norm, 0, rows);
  const Tensor fc = RowsOf(scratch_.fc, 0, rows);
  backend_->RmsNorm(x, kEpsilon, norm, RowsOf(scratch_.rstd, 0, rows));
  if (config_.mlp == MlpKind::kSwiGlu) {
    const Tensor up = RowsOf(scratch_.up, 0, rows);
    backend_->Linear(norm, w.mlp_gate.value, fc, WriteMode::kAssign);
    backend_->Linear(norm, w.mlp_up.value, up, WriteMode::kAssign);
    backend_->SwiGlu(fc, up, fc);
  } else {
    backend_->Linear(norm, w.mlp_fc.value, fc, WriteMode::kAssign);
    backend_->ReluSquared(fc, fc);
  }
  backend_->Linear(fc, w.mlp_proj.value, x, WriteMode::kAccumulate);
}

void Decoder::ReadLogits(std::span<double> logits) {
  SINKFORGE_CHECK(positions_ > 0 && static_cast<int64_t>(logits.size()) == config_.vocab_size);
  backend_->Linear(scratch_.last, parameters_->lm_head().value, scratch_.logits,
                   WriteMode::kAssign);
  if (scratch_.logits.dtype == DType::kF64) {
    std::copy_n(scratch_.logits.as<double>(), logits.size(), logits.begin());
  } else {
    std::copy_n(scratch_.logits.as<float>(), logits.size(), logits.begin());
  }
  const double cap = config_.logit_softcap;
  if (cap <= 0) return;
  for (double& logit : logits) logit = cap * std::tanh(logit / cap);
}

}  // namespace sinkforge::trainer
