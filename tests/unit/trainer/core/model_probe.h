// ModelProbe: a small model at random non-zero parameters whose total loss and gradients can be
// asked for, and the central differences to hold them against.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/head_balance.h"
#include "tests/unit/trainer/core/test_support.h"
#include "worker/trainer/core/model.h"
#include "worker/trainer/core/random.h"

namespace sinkforge::trainer {

// total = base_weight * mean loss + auxiliary loss.
struct Objective {
  double base_weight = 1;
  kernels::HeadBalanceConfig balance;
};

struct ProbeShape {
  int64_t rows = 2;
  int64_t sequence = 5;
};

class ModelProbe {
 public:
  ModelProbe(const ModelConfig& config, const ProbeShape& shape, const Objective& objective,
             kernels::Backend* backend)
      : config_(config), shape_(shape), objective_(objective), backend_(backend) {
    const bool counts = objective.balance.loss == kernels::BalanceLoss::kSwitch;
    ModelPlan plan{shape.rows, shape.sequence,
                   counts ? GateStatistics::kSumsAndArgmax : GateStatistics::kSums};
    auto model = Model::Create(config, plan, backend);
    SINKFORGE_CHECK(model.ok());
    model_ = std::move(model).value();
    sums_.resize(static_cast<size_t>(config.layers * config.heads));
    counts_.resize(counts ? sums_.size() : 0);
    Randomize();
  }

  double TotalLoss() {
    model_->Forward();
    const double base = model_->Loss(LossMode::kValue, 0) / static_cast<double>(positions());
    Balance();
    return objective_.base_weight * base + balance_.aux_loss;
  }

  void ComputeGradients() {
    model_->ZeroGradients();
    model_->Forward();
    loss_ = model_->Loss(LossMode::kValueAndGradient,
                         objective_.base_weight / static_cast<double>(positions()));
    Balance();
    model_->Backward(balance_.gradient, nullptr);
  }

  // Moves the parameters by `step` along `direction` (an empty vector: not this tensor), asks for
  // the loss and moves them back.
  double LossAlong(const std::vector<std::vector<double>>& direction, double step) {
    std::vector<std::vector<double>> saved;
    for (size_t i = 0; i < parameters().size(); ++i) {
      saved.push_back(Value(i));
      std::vector<double> moved = saved.back();
      for (size_t j = 0; j < direction[i].size(); ++j) moved[j] += step * direction[i][j];
      FromDoubles(backend_, moved, parameters()[i].weight.value);
    }
    const double loss = TotalLoss();
    for (size_t i = 0; i < saved.size(); ++i) {
      FromDoubles(backend_, saved[i], parameters()[i].weight.value);
    }
    return loss;
  }

  // Fourth-order central difference: its error is h^4 times the fifth derivative, and rounding
  // leaves about 1e-16 / h.
  double CentralDifference(const std::vector<std::vector<double>>& direction) {
    constexpr double kStep = 1e-4;
    const double near = LossAlong(direction, kStep) - LossAlong(direction, -kStep);
    const double far = LossAlong(direction, 2 * kStep) - LossAlong(direction, -2 * kStep);
    return (8 * near - far) / (12 * kStep);
  }

  std::vector<std::vector<double>> NoDirection() const {
    return std::vector<std::vector<double>>(parameters().size());
  }
  std::vector<double> Value(size_t index) const {
    return ToDoubles(backend_, parameters()[index].weight.value);
  }
  std::vector<double> Gradient(size_t index) const {
    return ToDoubles(backend_, parameters()[index].weight.gradient);
  }
  const std::vector<Parameter>& parameters() const {
    return std::as_const(*model_).parameters().all();
  }
  const kernels::HeadBalance& balance() const { return balance_; }
  double loss_sum() const { return loss_; }
  int64_t positions() const { return shape_.rows * shape_.sequence; }
  Model& model() { return *model_; }

 private:
  // Sizes at which every gradient is of a size that float64 differences can see. The values are
  // float32 numbers, so that every backend can have the same ones.
  void Randomize() {
    for (const Parameter& parameter : parameters()) {
      const RandomStream stream(11, "probe " + parameter.spec.name);
      const double deviation = parameter.spec.columns == 0 ? 0.7
                               : parameter.spec.role == ParameterRole::kEmbedding
                                   ? 1.0
                                   : 1.0 / std::sqrt(static_cast<double>(parameter.spec.columns));
      std::vector<double> values(static_cast<size_t>(parameter.spec.elements()));
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(deviation * stream.NormalPair(i)[0]);
      }
      FromDoubles(backend_, values, parameter.weight.value);
    }
    const RandomStream stream(12, "probe tokens");
    std::vector<int32_t> inputs;
    std::vector<int32_t> targets;
    const auto vocabulary = static_cast<uint64_t>(config_.vocab_size);
    for (uint64_t i = 0; i < static_cast<uint64_t>(positions()); ++i) {
      inputs.push_back(static_cast<int32_t>(stream.Bits(2 * i) % vocabulary));
      targets.push_back(static_cast<int32_t>(stream.Bits(2 * i + 1) % vocabulary));
    }
    model_->LoadBatch(shape_.rows, inputs.data(), targets.data());
  }

  // The share of positions at which a head has the largest gate carries no gradient (method.md
  // section 2): it is a constant of the function that is differentiated, and a small step that
  // turns a near tie over must not show. So the base point's counts stay.
  void Balance() {
    std::vector<double> counts_now(counts_.size());
    model_->ReadGateStatistics(sums_, counts_now);
    if (!counts_taken_) counts_ = counts_now;
    counts_taken_ = true;
    kernels::HeadBalanceInput input;
    input.layers = config_.layers;
    input.heads = config_.heads;
    input.positions = static_cast<double>(positions());
    input.gate_sums = sums_;
    input.argmax_counts = counts_;
    kernels::ComputeHeadBalance(objective_.balance, input, &balance_);
  }

  ModelConfig config_;
  ProbeShape shape_;
  Objective objective_;
  kernels::Backend* backend_;
  std::unique_ptr<Model> model_;
  std::vector<double> sums_;
  std::vector<double> counts_;
  bool counts_taken_ = false;
  kernels::HeadBalance balance_;
  double loss_ = 0;
};

// One combination of variant, gate, head norm, MLP and balance loss.
struct Combination {
  std::string name;
  ModelConfig model;
  kernels::HeadBalanceConfig balance;
};

inline std::vector<ModelConfig> AllModelConfigs(const ModelConfig& base) {
  using kernels::AttentionVariant;
  using kernels::GateGranularity;
  using kernels::HeadNorm;
  std::vector<ModelConfig> configs;
  const auto add = [&](AttentionVariant variant, GateGranularity gate, HeadNorm norm) {
    ModelConfig config = base;
    config.attention = variant;
    config.gate = gate;
    config.head_norm = norm;
    configs.push_back(config);
  };
  add(AttentionVariant::kVanilla, GateGranularity::kHead, HeadNorm::kNone);
  add(AttentionVariant::kVanilla, GateGranularity::kHead, HeadNorm::kRms);
  add(AttentionVariant::kSink, GateGranularity::kHead, HeadNorm::kNone);
  for (const GateGranularity gate : {GateGranularity::kHead, GateGranularity::kElement}) {
    for (const HeadNorm norm : {HeadNorm::kNone, HeadNorm::kRms}) {
      add(AttentionVariant::kGated, gate, norm);
    }
  }
  // The MLP knows nothing of attention: one variant is enough.
  add(AttentionVariant::kGated, GateGranularity::kHead, HeadNorm::kNone);
  configs.back().mlp = MlpKind::kSwiGlu;
  return configs;
}

inline std::string ModelName(const ModelConfig& config) {
  std::string name = config.attention == kernels::AttentionVariant::kVanilla ? "Vanilla"
                     : config.attention == kernels::AttentionVariant::kSink  ? "Sink"
                     : config.gate == kernels::GateGranularity::kHead        ? "GatedHead"
                                                                             : "GatedElement";
  if (config.head_norm == kernels::HeadNorm::kRms) name += "Rms";
  if (config.mlp == MlpKind::kSwiGlu) name += "SwiGlu";
  return name;
}

inline std::vector<Combination> AllCombinations(const ModelConfig& base) {
  using kernels::BalanceLoss;
  const std::vector<std::pair<std::string, kernels::HeadBalanceConfig>> losses = {
      {"None", {BalanceLoss::kNone, 0, 0}},
      {"Cv", {BalanceLoss::kCv, 1, 0}},
      {"CvShared", {BalanceLoss::kCv, 1, 1}},
      {"Switch", {BalanceLoss::kSwitch, 1, 0}},
  };
  std::vector<Combination> combinations;
  for (const ModelConfig& model : AllModelConfigs(base)) {
    for (const auto& [name, balance] : losses) {
      combinations.push_back({ModelName(model) + name, model, balance});
    }
  }
  return combinations;
}

// Those that have an auxiliary loss.
inline std::vector<Combination> CombinationsWithLoss(const ModelConfig& base) {
  std::vector<Combination> combinations;
  for (const Combination& one : AllCombinations(base)) {
    if (one.balance.loss != kernels::BalanceLoss::kNone) combinations.push_back(one);
  }
  return combinations;
}

}  // namespace sinkforge::trainer
