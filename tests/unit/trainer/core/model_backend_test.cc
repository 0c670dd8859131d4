// The whole model on every backend against the float64 reference: gradients norm-wise per tensor,
// the loss and the importance, for every combination of variant, gate, head norm and balance loss,
// at a shape with remainders everywhere.
#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/trainer/core/model_probe.h"

namespace sinkforge::trainer {
namespace {

using kernels::DType;
using kernels::LseGradient;

constexpr double kTolerance = 1e-5;

ModelConfig AgreementModel() {
  ModelConfig config;
  config.layers = 3;
  config.width = 60;
  config.heads = 6;
  config.vocab_size = 101;
  config.mlp_width = 130;
  return config;
}

// Norm-wise errors of every gradient against the oracle's; returns the worst.
double CompareToOracle(ModelProbe& tested, ModelProbe& oracle) {
  tested.ComputeGradients();
  EXPECT_NEAR(tested.loss_sum(), oracle.loss_sum(), 1e-6 * std::abs(oracle.loss_sum()));
  EXPECT_NEAR(tested.balance().aux_loss, oracle.balance().aux_loss,
              1e-5 * oracle.balance().aux_loss + 1e-12);
  EXPECT_LE(RelativeDistance(tested.balance().importance, oracle.balance().importance), 1e-6);
  double worst = 0;
  for (size_t i = 0; i < oracle.parameters().size(); ++i) {
    const double distance = RelativeDistance(tested.Gradient(i), oracle.Gradient(i));
    EXPECT_LE(distance, kTolerance) << oracle.parameters()[i].spec.name;
    worst = std::max(worst, distance);
  }
  return worst;
}

class ModelBackendTest : public ::testing::TestWithParam<Combination> {};

TEST_P(ModelBackendTest, AgreesWithTheFloat64Reference) {
  const auto oracle_backend = kernels::MakeRefBackend(DType::kF64);
  const std::unique_ptr<kernels::Backend> backends[] = {kernels::MakeCpuBackend(2),
                                                        kernels::MakeRefBackend(DType::kF32)};
  double worst[] = {0, 0};
  for (const LseGradient lse : {LseGradient::kExact, LseGradient::kDetached}) {
    for (const double base_weight : {1.0, 0.0}) {
      if (base_weight == 0 && GetParam().balance.loss == kernels::BalanceLoss::kNone) continue;
      ModelConfig model = GetParam().model;
      model.lse_gradient = lse;
      const ProbeShape shape{2, 37};
      const Objective objective{base_weight, GetParam().balance};
      ModelProbe oracle(model, shape, objective, oracle_backend.get());
      oracle.ComputeGradients();
      for (size_t i = 0; i < 2; ++i) {
        SCOPED_TRACE(std::string(backends[i]->name()) +
                     (lse == LseGradient::kExact ? ", exact" : ", detached"));
        ModelProbe tested(model, shape, objective, backends[i].get());
        worst[i] = std::max(worst[i], CompareToOracle(tested, oracle));
      }
    }
  }
  std::printf("%s: worst norm-wise error of a gradient: cpu %.1e, float32 reference %.1e\n",
              GetParam().name.c_str(), worst[0], worst[1]);
}

INSTANTIATE_TEST_SUITE_P(All, ModelBackendTest,
                         ::testing::ValuesIn(AllCombinations(AgreementModel())),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace sinkforge::trainer
