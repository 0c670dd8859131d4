// Model: the plan of its memory, forward and loss. The backward is in model_backward.cc.
#include "worker/trainer/core/model.h"

#include <algorithm>
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

kernels::AttentionConfig AttentionConfigOf(const ModelConfig& config) {
  kernels::AttentionConfig attention;
  attention.variant = config.attention;
  attention.gate = config.gate;
  attention.head_norm = config.head_norm;
  attention.lse_gradient = config.lse_gradient;
  attention.epsilon = static_cast<float>(kNormEpsilon);
  return attention;
}

Model::Model(const ModelConfig& config, const ModelPlan& plan, kernels::Backend* backend)
    : config_(config),
      plan_(plan),
      backend_(backend),
      attention_(AttentionConfigOf(config)),
      arena_("activations", backend) {}

std::unique_ptr<Model> Model::CreateUnallocated(const ModelConfig& config, const ModelPlan& plan,
                                                kernels::Backend* backend) {
  std::unique_ptr<Model> model(new Model(config, plan, backend));
  model->parameters_ = ParameterSet::CreateUnallocated(config, backend);
  model->Plan();
  return model;
}

Result<std::unique_ptr<Model>> Model::Create(const ModelConfig& config, const ModelPlan& plan,
                                             kernels::Backend* backend) {
  std::unique_ptr<Model> model(new Model(config, plan, backend));
  Result<std::unique_ptr<ParameterSet>> parameters =
      ParameterSet::Create(config, backend, plan.gradients);
  if (!parameters.ok()) return parameters.status();
  model->parameters_ = std::move(parameters).value();
  model->Plan();
  if (Status status = model->arena_.Allocate(); !status.ok()) return status;
  model->BindTensors();
  return model;
}

void Model::Plan() {
  layers_.resize(static_cast<size_t>(config_.layers));
  PlanScratch();
  for (int64_t layer = 0; layer < config_.layers; ++layer) PlanLayer(layer);
}

void Model::BindTensors() {
  for (const auto& [tensor, index] : wanted_) *tensor = arena_.at(index);
  const int64_t positions = plan_.rows_max * plan_.sequence;
  const Tensor& both = arena_.at(union_);
  const auto part = [&](int64_t first, int64_t width) {
    char* start = both.as<char>() + first * positions * kernels::SizeOf(both.dtype);
    return Tensor(start, both.dtype, {positions, width});
  };
  scratch_.d_fc = scratch_.act = part(0, config_.mlp_width);
  scratch_.d_q = part(0, config_.width);
  scratch_.d_k = part(config_.width, config_.width);
  scratch_.d_v = part(2 * config_.width, config_.width);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    const auto row = static_cast<int64_t>(layer);
    layers_[layer].gate_sums = LayerRow(scratch_.gate_sums, row);
    layers_[layer].importance_gradient = LayerRow(scratch_.importance_gradient, row);
    if (!scratch_.argmax_counts.empty()) {
      layers_[layer].argmax_counts = LayerRow(scratch_.argmax_counts, row);
    }
  }
}

void Model::PlanScratch() {
  const DType dtype = backend_->activation_dtype();
  const DType statistic = backend_->compute_dtype();
  const int64_t positions = plan_.rows_max * plan_.sequence;
  const int64_t width = config_.width;
  const auto add = [&](const char* name, Tensor* tensor, DType type,
                       std::initializer_list<int64_t> dims) {
    wanted_.emplace_back(tensor, arena_.Add(name, type, dims));
  };
  add("tokens", &scratch_.tokens, DType::kI32, {positions});
  add("targets", &scratch_.targets, DType::kI32, {positions});
  add("losses", &scratch_.losses, statistic, {positions});
  add("x", &scratch_.x, dtype, {positions, width});
  add("x_rstd", &scratch_.x_rstd, statistic, {positions});
  add("dx", &scratch_.dx, dtype, {positions, width});
  add("d_norm", &scratch_.d_norm, dtype, {positions, width});
  const bool swiglu = config_.mlp == MlpKind::kSwiGlu;
  union_ = arena_.Add(swiglu ? "act or d_q, d_k, d_v" : "d_fc or d_q, d_k, d_v", dtype,
                      {positions, std::max(config_.mlp_width, 3 * width)});
  if (config_.attention == AttentionVariant::kGated) {
    const int64_t gates = config_.gate == GateGranularity::kHead ? config_.heads : width;
    add("d_gate_logits", &scratch_.d_gate_logits, dtype, {positions, gates});
  }
  add("gate_sums", &scratch_.gate_sums, DType::kF64, {config_.layers, config_.heads});
  if (plan_.recompute != Recompute::kNone) {
    add("recomputed_sums", &scratch_.recomputed_sums, DType::kF64, {config_.heads});
  }
  if (plan_.statistics == GateStatistics::kSumsAndArgmax) {
    add("argmax_counts", &scratch_.argmax_counts, DType::kF64, {config_.layers, config_.heads});
  }
  add("importance_gradient", &scratch_.importance_gradient, DType::kF64,
      {config_.layers, config_.heads});
}

void Model::PlanLayer(int64_t layer) {
  const DType dtype = backend_->activation_dtype();
  const DType statistic = backend_->compute_dtype();
  const int64_t positions = plan_.rows_max * plan_.sequence;
  const int64_t width = config_.width;
  const int64_t heads = config_.heads;
  const int64_t rows = plan_.rows_max;
  LayerActivations& a = layers_[static_cast<size_t>(layer)];
  const bool keeps_block = plan_.recompute != Recompute::kBlock;
  const bool keeps_attention = plan_.recompute == Recompute::kNone;
  const auto add_typed = [&](DType type, bool keeps, const char* name,
                             Tensor LayerActivations::*member,
                             std::initializer_list<int64_t> dims) {
    size_t index = 0;
    if (keeps || layer == 0) {
      const std::string owner = keeps ? "layer" + std::to_string(layer) : "recomputed";
      index = arena_.Add(owner + "/" + name, type, dims);
    } else {
      // Layer 0 planned it for all.
      const Tensor* first = &(layers_[0].*member);
      index = std::find_if(wanted_.begin(), wanted_.end(), [&](const auto& wanted) {
                return wanted.first == first;
              })->second;
    }
    wanted_.emplace_back(&(a.*member), index);
  };
  const auto add = [&](bool keeps, const char* name, Tensor LayerActivations::*member,
                       std::initializer_list<int64_t> dims) {
    add_typed(dtype, keeps, name, member, dims);
  };
  const auto add_statistic = [&](bool keeps, const char* name, Tensor LayerActivations::*member,
                                 std::initializer_list<int64_t> dims) {
    add_typed(statistic, keeps, name, member, dims);
  };
  using L = LayerActivations;
  const bool gated = config_.attention == AttentionVariant::kGated;
  const bool normed = config_.head_norm == HeadNorm::kRms;
  if (!keeps_block) add(true, "input", &L::input, {positions, width});
  add(keeps_block, "attn_norm", &L::attn_norm, {positions, width});
  add_statistic(keeps_block, "attn_rstd", &L::attn_rstd, {positions});
  add(keeps_attention, "q", &L::q, {positions, width});
  add(keeps_attention, "k", &L::k, {positions, width});
  add(keeps_attention, "v", &L::v, {positions, width});
  add_statistic(keeps_attention, "q_rstd", &L::q_rstd, {positions, heads});
  add_statistic(keeps_attention, "k_rstd", &L::k_rstd, {positions, heads});
  if (gated) {
    const int64_t gates = config_.gate == GateGranularity::kHead ? heads : width;
    add(keeps_attention, "gate_logits", &L::gate_logits, {positions, gates});
  }
  add(keeps_attention, "attn_out", &L::attn_out, {positions, width});
  add_statistic(keeps_attention, "lse", &L::lse, {rows, heads, plan_.sequence});
  add_statistic(keeps_attention, "gate", &L::gate, {rows, heads, plan_.sequence});
  if (normed && gated) add(keeps_attention, "attn_normed", &L::attn_normed, {positions, width});
  if (normed)
    add_statistic(keeps_attention, "head_rstd", &L::head_rstd, {rows, heads, plan_.sequence});
  add(keeps_block, "mlp_norm", &L::mlp_norm, {positions, width});
  add_statistic(keeps_block, "mlp_rstd", &L::mlp_rstd, {positions});
  if (config_.mlp == MlpKind::kReluSquared) {
    add(keeps_block, "act", &L::act, {positions, config_.mlp_width});
  } else {
    add(keeps_block, "mlp_gate", &L::mlp_gate, {positions, config_.mlp_width});
    add(keeps_block, "mlp_up", &L::mlp_up, {positions, config_.mlp_width});
  }
}

Tensor Model::Positions(const Tensor& full) const {
  return full.empty() ? full : First(full, batch_.positions());
}

Tensor Model::Rows(const Tensor& full) const {
  if (full.empty()) return full;
  return Tensor(full.data, full.dtype, {batch_.rows, full.dim(1), batch_.sequence});
}

kernels::AttentionShape Model::Shape() const {
  return {batch_.rows, batch_.sequence, config_.heads, config_.heads, config_.head_dim()};
}

void Model::LoadBatch(int64_t rows, const int32_t* inputs, const int32_t* targets) {
  LoadBatch({rows, plan_.sequence}, inputs, targets);
}

void Model::LoadBatch(const BatchShape& shape, const int32_t* inputs, const int32_t* targets) {
  SINKFORGE_CHECK(shape.rows >= 1 && shape.sequence >= 1 &&
                  shape.positions() <= plan_.rows_max * plan_.sequence);
  batch_ = shape;
  backend_->CopyFromHost(Positions(scratch_.tokens), inputs);
  backend_->CopyFromHost(Positions(scratch_.targets), targets);
}

kernels::WorkKey Model::KeyOf(Piece piece, size_t layer) const {
  const int64_t work = static_cast<int64_t>(piece) * config_.layers + static_cast<int64_t>(layer);
  return {this, {work, batch_.rows, batch_.sequence}};
}

void Model::Forward() {
  backend_->Replay(KeyOf(Piece::kForward, 0), [this] { ForwardAll(); });
}

void Model::ForwardAll() {
  const Tensor x = Positions(scratch_.x);
  backend_->Zero(scratch_.gate_sums);
  if (!scratch_.argmax_counts.empty()) backend_->Zero(scratch_.argmax_counts);
  backend_->Embedding(Positions(scratch_.tokens), parameters_->wte().working, x);
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
  const Tensor x = Positions(scratch_.x);
  if (!a.input.empty()) backend_->Copy(x, Positions(a.input));
  backend_->RmsNorm(x, kNormEpsilon, Positions(a.attn_norm), Positions(a.attn_rstd));
  Attend(layer, a.gate_sums);
  if (!a.argmax_counts.empty()) backend_->GateArgmaxCounts(Rows(a.gate), a.argmax_counts);
  backend_->Linear(Positions(a.attn_out), parameters_->layers()[layer].c_proj.working, x,
                   WriteMode::kAccumulate);
}

// From the norm of the layer's input to what goes into the output projection.
void Model::Attend(size_t layer, const Tensor& gate_sums) {
  const LayerActivations& a = layers_[layer];
  const LayerWeights& w = parameters_->layers()[layer];
  const Tensor norm = Positions(a.attn_norm);
  backend_->Linear(norm, w.c_q.working, Positions(a.q), WriteMode::kAssign);
  backend_->Linear(norm, w.c_k.working, Positions(a.k), WriteMode::kAssign);
  backend_->Linear(norm, w.c_v.working, Positions(a.v), WriteMode::kAssign);
  backend_->RopeNorm(Positions(a.q), batch_.sequence, config_.heads, config_.rope_base,
                     kNormEpsilon, Positions(a.q_rstd));
  backend_->RopeNorm(Positions(a.k), batch_.sequence, config_.heads, config_.rope_base,
                     kNormEpsilon, Positions(a.k_rstd));
  if (!a.gate_logits.empty()) {
    backend_->Linear(norm, w.c_gate.working, Positions(a.gate_logits), WriteMode::kAssign);
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
  args.importance_sum = gate_sums;
  backend_->AttentionForward(attention_, Shape(), args);
}

void Model::ForwardMlp(size_t layer) {
  const LayerActivations& a = layers_[layer];
  const Tensor x = Positions(scratch_.x);
  backend_->RmsNorm(x, kNormEpsilon, Positions(a.mlp_norm), Positions(a.mlp_rstd));
  ExpandMlp(layer);
  Tensor act = Positions(a.act);
  if (config_.mlp == MlpKind::kSwiGlu) {
    act = Positions(scratch_.act);
    backend_->SwiGlu(Positions(a.mlp_gate), Positions(a.mlp_up), act);
  }
  backend_->Linear(act, parameters_->layers()[layer].mlp_proj.working, x, WriteMode::kAccumulate);
}

// From the MLP's norm to what its backward needs.
void Model::ExpandMlp(size_t layer) {
  const LayerActivations& a = layers_[layer];
  const LayerWeights& w = parameters_->layers()[layer];
  const Tensor norm = Positions(a.mlp_norm);
  if (config_.mlp == MlpKind::kSwiGlu) {
    backend_->Linear(norm, w.mlp_gate.working, Positions(a.mlp_gate), WriteMode::kAssign);
    backend_->Linear(norm, w.mlp_up.working, Positions(a.mlp_up), WriteMode::kAssign);
    return;
  }
  const Tensor act = Positions(a.act);
  backend_->Linear(norm, w.mlp_fc.working, act, WriteMode::kAssign);
  backend_->ReluSquared(act, act);
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
  args.w = parameters_->lm_head().working;
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

void Model::ReadLosses(std::vector<double>* losses) const {
  const Tensor values = Positions(scratch_.losses);
  const auto count = static_cast<size_t>(values.elements());
  losses->resize(count);
  if (values.dtype == DType::kF64) {
    backend_->CopyToHost(losses->data(), values);
    return;
  }
  std::vector<float> narrow(count);
  backend_->CopyToHost(narrow.data(), values);
  std::copy(narrow.begin(), narrow.end(), losses->begin());
}

void Model::ZeroGradients() {
  backend_->Zero(parameters_->gradients().Flat(backend_->compute_dtype()));
}

}  // namespace sinkforge::trainer
