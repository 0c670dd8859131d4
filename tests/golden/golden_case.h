// The combinations of attention, loss and MLP that tests/golden/generate.py writes golden files
// for.
#pragma once

#include <string>
#include <vector>

#include "worker/trainer/core/config.h"

namespace sinkforge::trainer {

struct GoldenCase {
  kernels::AttentionVariant attention = kernels::AttentionVariant::kVanilla;
  kernels::GateGranularity gate = kernels::GateGranularity::kHead;
  kernels::HeadNorm head_norm = kernels::HeadNorm::kNone;
  kernels::LseGradient lse_gradient = kernels::LseGradient::kExact;
  kernels::HeadBalanceConfig loss = {};  // coefficient 1
  bool with_base = true;                 // false: the auxiliary loss alone
  MlpKind mlp = MlpKind::kReluSquared;

  std::string ParametersName() const;  // "gated_element", "gated_head_swiglu"
  std::string Name() const;            // "gated_element_rms_cv_shared"
};

// Every one of which a file gradients_<name>.safetensors exists.
std::vector<GoldenCase> GradientCases();
// Every one of which files steps_<name>_{muon,adamw}.safetensors exist.
std::vector<GoldenCase> StepCases();

// The model, data and schedule that all golden files share, with the case's attention and loss.
TrainingConfig GoldenConfig(const GoldenCase& golden_case);
// As generate.py sets the optimizers.
OptimizerConfig GoldenOptimizer(OptimizerKind kind);

}  // namespace sinkforge::trainer
