// The whole model's gradients against central differences in float64: every combination of variant,
// gate, head norm and balance loss with the exact gradient, at random non-zero parameters and
// coefficient 1, with the base loss and with the auxiliary loss alone.
#include "tests/unit/trainer/core/gradient_check.h"

namespace sinkforge::trainer {
namespace {

class ModelGradientTest : public ::testing::TestWithParam<Combination> {};
class ModelAuxiliaryGradientTest : public ::testing::TestWithParam<Combination> {};

double WorstError(const Combination& combination, double base_weight) {
  const auto backend = kernels::MakeRefBackend(kernels::DType::kF64);
  const Objective objective{base_weight, combination.balance};
  ModelProbe probe(combination.model, ProbeShape(), objective, backend.get());
  return CheckGradients(probe, probe);
}

TEST_P(ModelGradientTest, EqualsCentralDifferences) {
  const double worst = WorstError(GetParam(), 1);
  std::printf("%s: worst relative error %.1e\n", GetParam().name.c_str(), worst);
}

TEST_P(ModelAuxiliaryGradientTest, EqualsCentralDifferences) {
  const double worst = WorstError(GetParam(), 0);
  std::printf("%s, auxiliary loss alone: worst relative error %.1e\n", GetParam().name.c_str(),
              worst);
}

INSTANTIATE_TEST_SUITE_P(All, ModelGradientTest,
                         ::testing::ValuesIn(AllCombinations(GradientCheckModel())),
                         [](const auto& tested) { return tested.param.name; });
INSTANTIATE_TEST_SUITE_P(All, ModelAuxiliaryGradientTest,
                         ::testing::ValuesIn(CombinationsWithLoss(GradientCheckModel())),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace sinkforge::trainer
