// Optimizer: schedules, groups and the update of every parameter.
#include "worker/trainer/core/optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::Tensor;

namespace {

// The width at which nanochat's embedding rates were tuned.
constexpr double kReferenceWidth = 768;
constexpr double kMomentumStart = 0.85;
constexpr double kMomentumEnd = 0.95;
constexpr double kMomentumSteps = 300;
// As PyTorch's clip_grad_norm_, so that runs can be compared with it.
constexpr double kClipEpsilon = 1e-6;

// The elements `share` of a tensor: the tensor itself where they are all of it, else a vector.
Tensor PartOf(const Tensor& whole, const Share& share) {
  if (share.size == whole.elements()) return whole;
  if (share.size == 0) return Tensor();
  return FlatSlice(whole, share);
}

}  // namespace

double LearningRateScale(const OptimizerConfig& config, int64_t step, int64_t steps) {
  const auto total = static_cast<double>(steps);
  const double warmup = std::round(config.warmup * total);
  const double warmdown = std::round(config.warmdown * total);
  const auto done = static_cast<double>(step - 1);
  if (done < warmup) return (done + 1) / warmup;
  if (done >= total) return 0;
  if (done <= total - warmdown) return 1;
  return (total - done) / warmdown;
}

double MuonMomentum(int64_t step) {
  const double share = std::min(static_cast<double>(step - 1) / kMomentumSteps, 1.0);
  return (1 - share) * kMomentumStart + share * kMomentumEnd;
}

double ClipScale(double gradient_norm, double clip) {
  if (clip <= 0) return 1;
  return std::min(1.0, clip / (gradient_norm + kClipEpsilon));
}

Optimizer::Optimizer(const OptimizerConfig& config, kernels::Backend* backend)
    : config_(config), backend_(backend), arena_("optimizer state", backend) {}

Optimizer::Entry Optimizer::Describe(const Parameter& parameter, int64_t width,
                                     const Share& share) const {
  const double scale =
      config_.scale_by_width ? std::pow(static_cast<double>(width) / kReferenceWidth, -0.5) : 1.0;
  Entry entry;
  entry.weight = {
      PartOf(parameter.weight.value, share), PartOf(parameter.weight.gradient, share), {}};
  switch (parameter.spec.role) {
    case ParameterRole::kEmbedding:
      entry.learning_rate = config_.embedding_lr * scale;
      break;
    case ParameterRole::kUnembedding:
      entry.learning_rate = config_.unembedding_lr * scale;
      break;
    case ParameterRole::kGate:
      entry.learning_rate = config_.gate_lr;
      break;
    case ParameterRole::kMatrix:
      entry.learning_rate = config_.matrix_lr;
      if (config_.kind == OptimizerKind::kMuon) {
        entry.rule = Rule::kMuon;
      } else {
        entry.weight_decay = config_.weight_decay;
      }
      break;
  }
  return entry;
}

void Optimizer::AddState(const std::string& kind, const Parameter& parameter, const Share& share) {
  const Tensor& whole = parameter.weight.value;
  OptimizerState state;
  state.name = "optimizer/" + kind + "/" + parameter.spec.name;
  state.shape = {whole.shape.begin(), whole.shape.begin() + whole.rank};
  state.share = share;
  if (share.size > 0) arena_.Add(state.name, whole.dtype, {share.size});
  state_.push_back(std::move(state));
}

std::unique_ptr<Optimizer> Optimizer::CreateUnallocated(const OptimizerConfig& config,
                                                        int64_t width,
                                                        const ParameterSet& parameters,
                                                        const ShardPlan& plan,
                                                        kernels::Backend* backend) {
  std::unique_ptr<Optimizer> optimizer(new Optimizer(config, backend));
  for (size_t i = 0; i < parameters.all().size(); ++i) {
    const Parameter& parameter = parameters.all()[i];
    const Share share = plan.owned(i);
    optimizer->entries_.push_back(optimizer->Describe(parameter, width, share));
    if (optimizer->entries_.back().rule == Rule::kMuon) {
      optimizer->AddState("momentum", parameter, share);
    } else {
      optimizer->AddState("adam_m", parameter, share);
      optimizer->AddState("adam_v", parameter, share);
    }
  }
  return optimizer;
}

Result<std::unique_ptr<Optimizer>> Optimizer::Create(const OptimizerConfig& config, int64_t width,
                                                     const ParameterSet& parameters,
                                                     const ShardPlan& plan,
                                                     kernels::Backend* backend) {
  std::unique_ptr<Optimizer> optimizer =
      CreateUnallocated(config, width, parameters, plan, backend);
  if (Status status = optimizer->arena_.Allocate(); !status.ok()) return status;
  size_t next = 0;
  for (OptimizerState& state : optimizer->state_) {
    if (state.share.size > 0) state.tensor = optimizer->arena_.at(next++);
  }
  // An entry's tensors have its weight's shape: Muon's a matrix, a part of a tensor a vector.
  next = 0;
  const auto shaped = [&](const Entry& entry) {
    Tensor tensor = entry.weight.value;
    tensor.data = optimizer->state_[next++].tensor.data;
    return tensor;
  };
  for (Entry& entry : optimizer->entries_) {
    entry.first = shaped(entry);
    if (entry.rule == Rule::kAdamW) entry.second = shaped(entry);
  }
  return optimizer;
}

void Optimizer::Apply(const OptimizerStep& step, size_t first, size_t end) {
  adamw_.clear();
  muon_.clear();
  for (size_t i = first; i < end; ++i) {
    const Entry& entry = entries_[i];
    if (entry.weight.value.empty()) continue;
    if (entry.rule == Rule::kMuon) {
      kernels::MuonArgs args;
      args.parameter = entry.weight.value;
      args.gradient = entry.weight.gradient;
      args.momentum_buffer = entry.first;
      args.learning_rate = entry.learning_rate * step.rate_scale;
      args.momentum = MuonMomentum(step.step);
      args.gradient_scale = step.gradient_scale;
      muon_.push_back(args);
      continue;
    }
    kernels::AdamWArgs args;
    args.parameter = entry.weight.value;
    args.gradient = entry.weight.gradient;
    args.m = entry.first;
    args.v = entry.second;
    args.learning_rate = entry.learning_rate * step.rate_scale;
    args.beta1 = config_.beta1;
    args.beta2 = config_.beta2;
    args.epsilon = config_.epsilon;
    args.weight_decay = entry.weight_decay;
    args.step = step.step;
    args.gradient_scale = step.gradient_scale;
    adamw_.push_back(args);
  }
  backend_->MuonAll(muon_);
  backend_->AdamWAll(adamw_);
}

}  // namespace sinkforge::trainer
