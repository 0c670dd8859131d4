// The golden cases: names as generate.py writes them, and the configuration behind each.
#include "tests/golden/golden_case.h"

namespace sinkforge::trainer {

using kernels::AttentionVariant;
using kernels::BalanceLoss;
using kernels::GateGranularity;
using kernels::HeadBalanceConfig;
using kernels::HeadNorm;
using kernels::LseGradient;

namespace {

HeadBalanceConfig Loss(BalanceLoss loss, int64_t shared_heads) {
  return {.loss = loss,
          .coefficient = loss == BalanceLoss::kNone ? 0.0 : 1.0,
          .shared_heads = shared_heads};
}

std::vector<HeadBalanceConfig> Losses() {
  return {Loss(BalanceLoss::kNone, 0), Loss(BalanceLoss::kCv, 0), Loss(BalanceLoss::kCv, 1),
          Loss(BalanceLoss::kSwitch, 0)};
}

std::vector<GoldenCase> Architectures() {
  std::vector<GoldenCase> all;
  all.push_back({.attention = AttentionVariant::kVanilla});
  all.push_back({.attention = AttentionVariant::kVanilla, .head_norm = HeadNorm::kRms});
  all.push_back({.attention = AttentionVariant::kSink});
  for (const GateGranularity gate : {GateGranularity::kHead, GateGranularity::kElement}) {
    for (const HeadNorm norm : {HeadNorm::kNone, HeadNorm::kRms}) {
      all.push_back({.attention = AttentionVariant::kGated, .gate = gate, .head_norm = norm});
    }
  }
  return all;
}

GoldenCase SwiGluCase() {
  return {.attention = AttentionVariant::kGated,
          .loss = Loss(BalanceLoss::kCv, 0),
          .mlp = MlpKind::kSwiGlu};
}

const char* LossName(const HeadBalanceConfig& loss) {
  switch (loss.loss) {
    case BalanceLoss::kNone:
      return "none";
    case BalanceLoss::kCv:
      return loss.shared_heads > 0 ? "cv_shared" : "cv";
    case BalanceLoss::kSwitch:
      return "switch";
  }
  return "";
}

}  // namespace

std::string GoldenCase::ParametersName() const {
  std::string name;
  switch (attention) {
    case AttentionVariant::kVanilla:
      name = "vanilla";
      break;
    case AttentionVariant::kSink:
      name = "sink";
      break;
    case AttentionVariant::kGated:
      name = gate == GateGranularity::kHead ? "gated_head" : "gated_element";
      break;
  }
  return name + (mlp == MlpKind::kSwiGlu ? "_swiglu" : "");
}

std::string GoldenCase::Name() const {
  std::string name = ParametersName();
  if (head_norm == HeadNorm::kRms) name += "_rms";
  if (lse_gradient == LseGradient::kDetached) name += "_detached";
  name += std::string("_") + LossName(loss);
  if (!with_base) name += "_alone";
  return name;
}

std::vector<GoldenCase> GradientCases() {
  std::vector<GoldenCase> cases;
  const std::vector<GoldenCase> architectures = Architectures();
  const auto add = [&](GoldenCase base, const HeadBalanceConfig& loss) {
    base.loss = loss;
    cases.push_back(base);
  };
  for (const GoldenCase& architecture : architectures) {
    for (const HeadBalanceConfig& loss : Losses()) add(architecture, loss);
  }
  // Detached, vanilla differs only by the loss; the sink's own output uses the gate too.
  GoldenCase vanilla = architectures[0];
  GoldenCase sink = architectures[2];
  vanilla.lse_gradient = sink.lse_gradient = LseGradient::kDetached;
  for (const HeadBalanceConfig& loss : Losses()) {
    if (loss.loss != BalanceLoss::kNone) add(vanilla, loss);
    add(sink, loss);
  }
  for (const GoldenCase& architecture :
       {architectures[0], architectures[2], architectures.back()}) {
    GoldenCase alone = architecture;
    alone.with_base = false;
    add(alone, Loss(BalanceLoss::kCv, 0));
  }
  cases.push_back(SwiGluCase());
  return cases;
}

std::vector<GoldenCase> StepCases() {
  std::vector<GoldenCase> cases = Architectures();
  for (GoldenCase& architecture : cases) architecture.loss = Loss(BalanceLoss::kCv, 0);
  cases.push_back(SwiGluCase());
  return cases;
}

TrainingConfig GoldenConfig(const GoldenCase& golden_case) {
  TrainingConfig config;
  config.model.layers = 2;
  config.model.width = 24;
  config.model.heads = 4;
  config.model.vocab_size = 32;
  config.model.mlp = golden_case.mlp;
  config.model.mlp_width = 32;
  config.model.attention = golden_case.attention;
  config.model.gate = golden_case.gate;
  config.model.head_norm = golden_case.head_norm;
  config.model.lse_gradient = golden_case.lse_gradient;
  config.head_balance = golden_case.loss;
  config.optimizer = GoldenOptimizer(OptimizerKind::kMuon);
  config.steps = 10;
  config.sequence_length = 12;
  config.micro_batch_rows = 2;
  config.micro_steps = 2;
  return config;
}

OptimizerConfig GoldenOptimizer(OptimizerKind kind) {
  OptimizerConfig config;  // nanochat's
  config.kind = kind;
  if (kind == OptimizerKind::kAdamW) {
    config.matrix_lr = config.embedding_lr = config.unembedding_lr = 3e-3;
    config.scale_by_width = false;
    config.weight_decay = 0.1;
  }
  return config;
}

}  // namespace sinkforge::trainer
