// Model: the plan of its memory, forward and loss. The backward is in model_backward.cc.
#include "worker/trainer/core/model.h"

#include <limits>
#include <string>
#include <utility>

namespace sinkforge::trainer {

using kernels::AttentionVariant;
using kernels::DType;
using kernels::GateGranularity;
using kernels::HeadNorm;
using kernels::Result;
using kernels::Status;
using kernels::Tensor;
using kernels::WriteMode;

namespace {

constexpr double kNormEpsilon = std::numeric_limits<float>::epsilon();

Tensor First(Tensor full, int64_t count) {
  SINKFORGE_CHECK(count <= full.dim(0));
  full.shape[0] = count;
  return full;
}

// Row `layer` of a [layers, heads] tensor.
Tensor LayerRow(const Tensor& matrix, int64_t layer) {
  const int64_t heads = matrix.dim(1);
  return Tensor(matrix.as<double>() + layer * heads, DType::kF64, {heads});
}

}  // namespace

Model::Model(const ModelConfig& config, const ModelPlan& plan, kernels::Backend* backend)
    : config_(config), plan_(plan), backend_(backend), arena_("activations", backend) {
  attention_.variant = config.attention;
  attention_.gate = config.gate;
  attention_.head_norm = config.head_norm;
  attention_.lse_gradient = config.lse_gradient;
  attention_.epsilon = std::numeric_limits<float>::epsilon();
}

Result<std::unique_ptr<Model>> Model::Create(const ModelConfig& config, const ModelPlan& plan,
                                             kernels::Backend* backend) {
  std::unique_ptr<Model> model(new Model(config, plan, backend));
  Result<std::unique_ptr<ParameterSet>> parameters = ParameterSet::Create(config, backend);
  if (!parameters.ok()) return parameters.status();
  model->parameters_ = std::move(parameters).value();
  if (Status status = model->Plan(); !status.ok()) return status;
  return model;
}

Status Model::Plan() {
  std::vector<std::pair<Tensor*, size_t>> wanted;
  layers_.resize(static_cast<size_t>(config_.layers));
  PlanScratch(&wanted);
  for (int64_t layer = 0; layer < config_.layers; ++layer) PlanLayer(layer, &wanted);
  if (Status status = arena_.Allocate(); !status.ok()) return status;
  for (const auto& [tensor, index] : wanted) *tensor = arena_.at(index);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    const auto row = static_cast<int64_t>(layer);
    layers_[layer].gate_sums = LayerRow(scratch_.gate_sums, row);
    layers_[layer].importance_gradient = LayerRow(scratch_.importance_gradient, row);
    if (!scratch_.argmax_counts.empty()) {
      layers_[layer].argmax_counts = LayerRow(scratch_.argmax_counts, row);
    }
  }
  return Status();
}

void Model::PlanScratch(std::vector<std::pair<Tensor*, size_t>>* wanted) {
  const DType dtype = backend_->compute_dtype();
  const int64_t positions = plan_.rows_max * plan_.sequence;
  const int64_t width = config_.width;
  const auto add = [&](const char* name, Tensor* tensor, DType type,
                       std::initializer_list<int64_t> dims) {
    wanted->emplace_back(tensor, arena_.Add(name, type, dims));
  };
  add("tokens", &scratch_.tokens, DType::kI32, {positions});
  add("targets", &scratch_.targets, DType::kI32, {positions});
  add("losses", &scratch_.losses, dtype, {positions});
  add("x", &scratch_.x, dtype, {positions, width});
  add("x_rstd", &scratch_.x_rstd, dtype, {positions});
  add("dx", &scratch_.dx, dtype, {positions, width});
  add("d_norm", &scratch_.d_norm, dtype, {positions, width});
  add("d_attn_out", &scratch_.d_attn_out, dtype, {positions, width});
  add("d_q", &scratch_.d_q, dtype, {positions, width});
  add("d_k", &scratch_.d_k, dtype, {positions, width});
  add("d_v", &scratch_.d_v, dtype, {positions, width});
  if (config_.attention == AttentionVariant::kGated) {
    const int64_t gates = config_.gate == GateGranularity::kHead ? config_.heads : width;
    add("d_gate_logits", &scratch_.d_gate_logits, dtype, {positions, gates});
  }
  add("d_fc", &scratch_.d_fc, dtype, {positions, config_.mlp_width});
  add("gate_sums", &scratch_.gate_sums, DType::kF64, {config_.layers, config_.heads});
  if (plan_.statistics == GateStatistics::kSumsAndArgmax) {
    add("argmax_counts", &scratch_.argmax_counts, DType::kF64, {config_.layers, config_.heads});
  }
  add("importance_gradient", &scratch_.importance_gradient, DType::kF64,
      {config_.layers, config_.heads});
}

void Model::PlanLayer(int64_t layer, std::vector<std::pair<Tensor*, size_t>>* wanted) {
  const DType dtype = backend_->compute_dtype();
  const int64_t positions = plan_.rows_max * plan_.sequence;
  const int64_t width = config_.width;
  const int64_t heads = config_.heads;
  LayerActivations& a = layers_[static_cast<size_t>(layer)];
  const std::string prefix = "layer" + std::to_string(layer) + "/";
  const auto add = [&](const char* name, Tensor* tensor, std::initializer_list<int64_t> dims) {
    wanted->emplace_back(tensor, arena_.Add(prefix + name, dtype, dims));
  };
  const bool gated = config_.attention == AttentionVariant::kGated;
  const bool normed = config_.head_norm == HeadNorm::kRms;
  add("attn_norm", &a.attn_norm, {positions, width});
  add("attn_rstd", &a.attn_rstd, {positions});
  add("q", &a.q, {positions, width});
  add("k", &a.k, {positions, width});
  add("v", &a.v, {positions, width});
  add("q_rstd", &a.q_rstd, {positions, heads});
  add("k_rstd", &a.k_rstd, {positions, heads});
  if (gated) {
    const int64_t gates = config_.gate == GateGranularity::kHead ? heads : width;
    add("gate_logits", &a.gate_logits, {positions, gates});
  }
  add("attn_out", &a.attn_out, {positions, width});
  add("lse", &a.lse, {plan_.rows_max, heads, plan_.sequence});
  add("gate", &a.gate, {plan_.rows_max, heads, plan_.sequence});
  if (normed && gated) add("attn_normed", &a.attn_normed, {positions, width});
  if (normed) add("head_rstd", &a.head_rstd, {plan_.rows_max, heads, plan_.sequence});
  add("mlp_norm", &a.mlp_norm, {positions, width});
  add("mlp_rstd", &a.mlp_rstd, {positions});
  add("fc", &a.fc, {positions, config_.mlp_width});
  add("act", &a.act, {positions, config_.mlp_width});
}

Tensor Model::Positions(const Tensor& full) const {
  return full.empty() ? full : First(full, rows_ * plan_.sequence);
}

Tensor Model::Rows(const Tensor& full) const { return full.empty() ? full : First(full, rows_); }

kernels::AttentionShape Model::Shape() const {
  return {rows_, plan_.sequence, config_.heads, config_.heads, config_.head_dim()};
}

void Model::LoadBatch(int64_t rows, const int32_t* inputs, const int32_t* targets) {
  SINKFORGE_CHECK(rows >= 1 && rows <= plan_.rows_max);
  rows_ = rows;
  backend_->CopyFromHost(Positions(scratch_.tokens), inputs);
  backend_->CopyFromHost(Positions(scratch_.targets), targets);
}

void Model::Forward() {
  const Tensor x = Positions(scratch_.x);
  backend_->Zero(scratch_.gate_sums);
  if (!scratch_.argmax_counts.empty()) backend_->Zero(scratch_.argmax_counts);
  backend_->Embedding(Positions(scratch_.tokens), parameters_->wte().value, x);
  backend_->RmsNorm(x, kNormEpsilon, x, Positions(scratch_.x_rstd));
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    ForwardAttention(layer);
    ForwardMlp(layer);
  }
  // The residual stream is not needed again, so its norm takes its place.
  backend_->RmsNorm(x, kNormEpsilon, x, Positions(scratch_.x_rstd));
}

void Model::ForwardAttention(size_t layer) {
  const LayerActivations& a = layers_[layer];
  const LayerWeights& w = parameters_->layers()[layer];
  const Tensor x = Positions(scratch_.x);
  const Tensor norm = Positions(a.attn_norm);
  backend_->RmsNorm(x, kNormEpsilon, norm, Positions(a.attn_rstd));
  backend_->Linear(norm, w.c_q.value, Positions(a.q), WriteMode::kAssign);
  backend_->Linear(norm, w.c_k.value, Positions(a.k), WriteMode::kAssign);
  backend_->Linear(norm, w.c_v.value, Positions(a.v), WriteMode::kAssign);
  backend_->RopeNorm(Positions(a.q), plan_.sequence, config_.heads, config_.rope_base, kNormEpsilon,
                     Positions(a.q_rstd));
  backend_->RopeNorm(Positions(a.k), plan_.sequence, config_.heads, config_.rope_base, kNormEpsilon,
                     Positions(a.k_rstd));
  if (!a.gate_logits.empty()) {
    backend_->Linear(norm, w.c_gate.value, Positions(a.gate_logits), WriteMode::kAssign);
  }
  kernels::AttentionForwardArgs args;
  args.q = Positions(a.q);
  args.k = Positions(a.k);
  args.v = Positions(a.v);
  args.sinks = w.sinks.value;
  args.gate_logits = Positions(a.gate_logits);
  args.out = Positions(a.attn_out);
  args.lse = Rows(a.lse);
  args.gate = Rows(a.gate);
  args.normed = Positions(a.attn_normed);
  args.head_rstd = Rows(a.head_rstd);
  args.importance_sum = a.gate_sums;
  backend_->AttentionForward(attention_, Shape(), args);
  if (!a.argmax_counts.empty()) backend_->GateArgmaxCounts(Rows(a.gate), a.argmax_counts);
  backend_->Linear(Positions(a.attn_out), w.c_proj.value, x, WriteMode::kAccumulate);
}

void Model::ForwardMlp(size_t layer) {
  const LayerActivations& a = layers_[layer];
  const LayerWeights& w = parameters_->layers()[layer];
  const Tensor x = Positions(scratch_.x);
  const Tensor norm = Positions(a.mlp_norm);
  backend_->RmsNorm(x, kNormEpsilon, norm, Positions(a.mlp_rstd));
  backend_->Linear(norm, w.mlp_fc.value, Positions(a.fc), WriteMode::kAssign);
  backend_->ReluSquared(Positions(a.fc), Positions(a.act));
  backend_->Linear(Positions(a.act), w.mlp_proj.value, x, WriteMode::kAccumulate);
}

void Model::ReadGateStatistics(std::span<double> gate_sums, std::span<double> argmax_counts) const {
  const auto size = static_cast<size_t>(config_.layers * config_.heads);
  SINKFORGE_CHECK(gate_sums.size() == size);
  SINKFORGE_CHECK(argmax_counts.size() == (scratch_.argmax_counts.empty() ? 0 : size));
  backend_->CopyToHost(gate_sums.data(), scratch_.gate_sums);
  if (!argmax_counts.empty()) {
    backend_->CopyToHost(argmax_counts.data(), scratch_.argmax_counts);
  }
}

double Model::Loss(LossMode mode, double loss_scale) {
  kernels::CrossEntropyArgs args;
  args.x = Positions(scratch_.x);
  args.w = parameters_->lm_head().value;
  args.targets = Positions(scratch_.targets);
  args.softcap = config_.logit_softcap;
  args.loss_scale = loss_scale;
  args.losses = Positions(scratch_.losses);
  if (mode == LossMode::kValueAndGradient) {
    args.d_x = Positions(scratch_.d_norm);
    args.d_w = parameters_->lm_head().gradient;
  }
  backend_->CrossEntropy(args);
  return backend_->Sum(args.losses);
}

void Model::ZeroGradients() {
  backend_->Zero(parameters_->gradients().Flat(backend_->compute_dtype()));
}

}  // namespace sinkforge::trainer
