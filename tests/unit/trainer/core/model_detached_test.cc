// lse_gradient detached: its gradients are those of a surrogate in which the log-sum-exp that the
// gate reads is frozen (method.md section 3). FrozenLseBackend computes that surrogate's value by
// its definition, from the plain attention alone, and the whole model is differentiated through it.
#include "tests/unit/trainer/core/delegating_backend.h"
#include "tests/unit/trainer/core/gradient_check.h"

namespace sinkforge::trainer {
namespace {

using kernels::AttentionVariant;
using kernels::DType;
using kernels::LseGradient;
using kernels::Tensor;

// Float64 on the host. The first `layers` calls of the attention record L; later ones use it
// wherever the gate needs it.
class FrozenLseBackend final : public DelegatingBackend {
 public:
  FrozenLseBackend(kernels::Backend* inner, int64_t layers)
      : DelegatingBackend(inner), layers_(static_cast<size_t>(layers)) {}

  void AttentionForward(const kernels::AttentionConfig& config,
                        const kernels::AttentionShape& shape,
                        const kernels::AttentionForwardArgs& args) override {
    if (config.variant == AttentionVariant::kGated) {
      inner()->AttentionForward(config, shape, args);
      return;
    }
    kernels::AttentionConfig plain = config;
    plain.variant = AttentionVariant::kVanilla;
    kernels::AttentionForwardArgs plain_args = args;
    plain_args.sinks = Tensor();
    std::vector<double> unused(static_cast<size_t>(shape.heads), 0.0);
    plain_args.importance_sum = Tensor(unused.data(), DType::kF64, {shape.heads});
    inner()->AttentionForward(plain, shape, plain_args);

    const std::vector<double>& lse = FrozenLse(args.lse);
    for (int64_t row = 0; row < shape.batch; ++row) {
      for (int64_t head = 0; head < shape.heads; ++head) {
        for (int64_t t = 0; t < shape.sequence; ++t) {
          const int64_t at = (row * shape.heads + head) * shape.sequence + t;
          const double frozen = lse[static_cast<size_t>(at)];
          const double gate = config.variant == AttentionVariant::kSink
                                  ? ScaleBySinkGate(shape, args, {row, head, t}, frozen)
                                  : VanillaGate(shape, args, {row, head, t}, frozen);
          args.gate.as<double>()[at] = gate;
          args.importance_sum.as<double>()[head] += gate;
        }
      }
    }
  }

 private:
  struct Place {
    int64_t row, head, t;
  };

  const std::vector<double>& FrozenLse(const Tensor& lse) {
    const size_t call = calls_++;
    if (call < layers_) {
      frozen_.emplace_back(lse.as<double>(), lse.as<double>() + lse.elements());
    }
    return frozen_[call % layers_];
  }

  static int64_t Offset(const kernels::AttentionShape& shape, const Place& place) {
    return ((place.row * shape.sequence + place.t) * shape.heads + place.head) * shape.head_dim;
  }

  // O = sigmoid(L - s) O~.
  static double ScaleBySinkGate(const kernels::AttentionShape& shape,
                                const kernels::AttentionForwardArgs& args, const Place& place,
                                double lse) {
    const double gate = 1 / (1 + std::exp(args.sinks.as<double>()[place.head] - lse));
    double* out = args.out.as<double>() + Offset(shape, place);
    for (int64_t i = 0; i < shape.head_dim; ++i) out[i] *= gate;
    return gate;
  }

  // G = 1 - exp(z_t0 - L); row 0's is the constant 0.
  static double VanillaGate(const kernels::AttentionShape& shape,
                            const kernels::AttentionForwardArgs& args, const Place& place,
                            double lse) {
    if (place.t == 0) return 0;
    const double* q = args.q.as<double>() + Offset(shape, place);
    const double* k = args.k.as<double>() + Offset(shape, {place.row, place.head, 0});
    double dot = 0;
    for (int64_t i = 0; i < shape.head_dim; ++i) dot += q[i] * k[i];
    return 1 - std::exp(dot / std::sqrt(static_cast<double>(shape.head_dim)) - lse);
  }

  size_t layers_;
  size_t calls_ = 0;
  std::vector<std::vector<double>> frozen_;
};

class ModelDetachedTest : public ::testing::TestWithParam<Combination> {};
class ModelAuxiliaryDetachedTest : public ::testing::TestWithParam<Combination> {};

double WorstError(const Combination& combination, double base_weight) {
  const auto backend = kernels::MakeRefBackend(DType::kF64);
  const Objective objective{base_weight, combination.balance};
  ModelConfig detached = combination.model;
  detached.lse_gradient = LseGradient::kDetached;
  ModelProbe exact(detached, ProbeShape(), objective, backend.get());
  FrozenLseBackend frozen(backend.get(), detached.layers);
  ModelProbe surrogate(detached, ProbeShape(), objective, &frozen);
  // At the base point, where L is recorded, surrogate and model are the same function.
  EXPECT_NEAR(surrogate.TotalLoss(), exact.TotalLoss(), 1e-12);
  return CheckGradients(exact, surrogate);
}

TEST_P(ModelDetachedTest, EqualsCentralDifferencesOfTheSurrogate) {
  const double worst = WorstError(GetParam(), 1);
  std::printf("%s: worst relative error %.1e\n", GetParam().name.c_str(), worst);
}

TEST_P(ModelAuxiliaryDetachedTest, EqualsCentralDifferencesOfTheSurrogate) {
  const double worst = WorstError(GetParam(), 0);
  std::printf("%s, auxiliary loss alone: worst relative error %.1e\n", GetParam().name.c_str(),
              worst);
}

INSTANTIATE_TEST_SUITE_P(All, ModelDetachedTest,
                         ::testing::ValuesIn(AllCombinations(GradientCheckModel())),
                         [](const auto& tested) { return tested.param.name; });
INSTANTIATE_TEST_SUITE_P(All, ModelAuxiliaryDetachedTest,
                         ::testing::ValuesIn(CombinationsWithLoss(GradientCheckModel())),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace sinkforge::trainer
