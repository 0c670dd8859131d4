// Schedules, groups, and the optimizer's steps against an independent implementation in float64.
#include "worker/trainer/core/optimizer.h"

#include <cmath>
#include <map>

#include "gmock/gmock.h"
#include "tests/unit/trainer/core/test_support.h"

namespace sinkforge::trainer {
namespace {

using kernels::AttentionVariant;
using kernels::DType;

TEST(LearningRateScaleTest, IsConstantThenFallsLinearly) {
  OptimizerConfig config;
  config.warmdown = 0.2;
  EXPECT_EQ(LearningRateScale(config, 1, 100), 1);
  EXPECT_EQ(LearningRateScale(config, 81, 100), 1);
  EXPECT_DOUBLE_EQ(LearningRateScale(config, 82, 100), 19.0 / 20);
  EXPECT_DOUBLE_EQ(LearningRateScale(config, 100, 100), 1.0 / 20);
  EXPECT_EQ(LearningRateScale(config, 101, 100), 0);
}

TEST(LearningRateScaleTest, RisesOverTheWarmup) {
  OptimizerConfig config;
  config.warmup = 0.1;
  config.warmdown = 0;
  EXPECT_DOUBLE_EQ(LearningRateScale(config, 1, 100), 0.1);
  EXPECT_DOUBLE_EQ(LearningRateScale(config, 10, 100), 1);
  EXPECT_DOUBLE_EQ(LearningRateScale(config, 100, 100), 1);
}

TEST(MuonMomentumTest, RisesOverThreeHundredSteps) {
  EXPECT_DOUBLE_EQ(MuonMomentum(1), 0.85);
  EXPECT_DOUBLE_EQ(MuonMomentum(151), 0.9);
  EXPECT_DOUBLE_EQ(MuonMomentum(301), 0.95);
  EXPECT_DOUBLE_EQ(MuonMomentum(5000), 0.95);
}

TEST(ClipScaleTest, OnlyShortens) {
  EXPECT_EQ(ClipScale(0.5, 1), 1);
  EXPECT_NEAR(ClipScale(4, 1), 0.25, 1e-6);
  EXPECT_EQ(ClipScale(4, 0), 1);
  EXPECT_EQ(ClipScale(0, 1), 1);
}

// A matrix or a vector (one row) in float64.
struct Matrix {
  int64_t rows = 0, columns = 0;
  std::vector<double> values;
  double& at(int64_t r, int64_t c) { return values[static_cast<size_t>(r * columns + c)]; }
  double at(int64_t r, int64_t c) const { return values[static_cast<size_t>(r * columns + c)]; }
};

Matrix Zeros(int64_t rows, int64_t columns) {
  return {rows, columns, std::vector<double>(static_cast<size_t>(rows * columns))};
}

Matrix Transpose(const Matrix& a) {
  Matrix t = Zeros(a.columns, a.rows);
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.columns; ++c) t.at(c, r) = a.at(r, c);
  }
  return t;
}

Matrix Times(const Matrix& a, const Matrix& b) {
  Matrix product = Zeros(a.rows, b.columns);
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t k = 0; k < a.columns; ++k) {
      for (int64_t c = 0; c < b.columns; ++c) product.at(r, c) += a.at(r, k) * b.at(k, c);
    }
  }
  return product;
}

Matrix Combine(double x, const Matrix& a, double y, const Matrix& b) {
  Matrix sum = a;
  for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] = x * a.values[i] + y * b.values[i];
  return sum;
}

Matrix NewtonSchulz(Matrix x) {
  const bool tall = x.rows > x.columns;
  if (tall) x = Transpose(x);
  double norm = 0;
  for (const double value : x.values) norm += value * value;
  for (double& value : x.values) value /= std::sqrt(norm) + 1e-7;
  for (int step = 0; step < 5; ++step) {
    const Matrix a = Times(x, Transpose(x));
    const Matrix b = Combine(-4.7750, a, 2.0315, Times(a, a));
    x = Combine(3.4445, x, 1, Times(b, x));
  }
  return tall ? Transpose(x) : x;
}

// What the groups of references.md do to one parameter, step by step.
struct OracleParameter {
  ParameterRole role;
  Matrix value, m, v;
};

double GroupRate(const OptimizerConfig& config, ParameterRole role, double width) {
  const double scale = config.scale_by_width ? 1 / std::sqrt(width / 768) : 1;
  if (role == ParameterRole::kEmbedding) return config.embedding_lr * scale;
  if (role == ParameterRole::kUnembedding) return config.unembedding_lr * scale;
  return role == ParameterRole::kGate ? config.gate_lr : config.matrix_lr;
}

void OracleStep(const OptimizerConfig& config, double width, const OptimizerStep& step,
                const Matrix& raw_gradient, OracleParameter* p) {
  const double rate = GroupRate(config, p->role, width) * step.rate_scale;
  const Matrix gradient = Combine(step.gradient_scale, raw_gradient, 0, raw_gradient);
  if (config.kind == OptimizerKind::kMuon && p->role == ParameterRole::kMatrix) {
    const double momentum = 0.85 + 0.1 * std::min((static_cast<double>(step.step) - 1) / 300, 1.0);
    p->m = Combine(momentum, p->m, 1 - momentum, gradient);
    const Matrix direction = NewtonSchulz(Combine(1 - momentum, gradient, momentum, p->m));
    const double shape = std::sqrt(
        std::max(1.0, static_cast<double>(gradient.rows) / static_cast<double>(gradient.columns)));
    p->value = Combine(1, p->value, -rate * shape, direction);
    return;
  }
  const bool decays = config.kind == OptimizerKind::kAdamW && p->role == ParameterRole::kMatrix;
  const auto t = static_cast<double>(step.step);
  for (size_t i = 0; i < gradient.values.size(); ++i) {
    const double g = gradient.values[i];
    double& m = p->m.values[i];
    double& v = p->v.values[i];
    double& x = p->value.values[i];
    m = config.beta1 * m + (1 - config.beta1) * g;
    v = config.beta2 * v + (1 - config.beta2) * g * g;
    if (decays) x -= rate * config.weight_decay * x;
    x -= rate * (m / (1 - std::pow(config.beta1, t))) /
         (std::sqrt(v / (1 - std::pow(config.beta2, t))) + config.epsilon);
  }
}

class OptimizerOracleTest : public ::testing::TestWithParam<OptimizerKind> {};

TEST_P(OptimizerOracleTest, TakesTheSameSteps) {
  for (const AttentionVariant variant : {AttentionVariant::kSink, AttentionVariant::kGated}) {
    ModelConfig model = SmallJob().model;
    model.attention = variant;
    OptimizerConfig config;
    config.kind = GetParam();
    config.weight_decay = 0.1;
    config.scale_by_width = GetParam() == OptimizerKind::kMuon;
    const auto backend = kernels::MakeRefBackend(DType::kF64);
    auto set = ParameterSet::Create(model, backend.get());
    ASSERT_TRUE(set.ok());
    set.value()->Initialize(3);
    const ShardPlan plan(*set.value(), {config.kind});
    auto optimizer = Optimizer::Create(config, model.width, *set.value(), plan, backend.get());
    ASSERT_TRUE(optimizer.ok());
    std::vector<OracleParameter> oracle;
    for (const Parameter& p : set.value()->all()) {
      const int64_t rows = p.spec.columns == 0 ? 1 : p.spec.rows;
      const int64_t columns = p.spec.elements() / rows;
      oracle.push_back({p.spec.role,
                        {rows, columns, ToDoubles(backend.get(), p.weight.value)},
                        Zeros(rows, columns),
                        Zeros(rows, columns)});
    }
    for (int64_t step = 1; step <= 4; ++step) {
      const OptimizerStep update{step, 1.0 / static_cast<double>(step), 0.5};
      for (size_t i = 0; i < oracle.size(); ++i) {
        const Parameter& p = set.value()->all()[i];
        const RandomStream stream(static_cast<uint64_t>(step), p.spec.name);
        Matrix gradient = Zeros(oracle[i].value.rows, oracle[i].value.columns);
        for (size_t j = 0; j < gradient.values.size(); ++j) {
          gradient.values[j] = stream.NormalPair(j)[0];
        }
        FromDoubles(backend.get(), gradient.values, p.weight.gradient);
        OracleStep(config, static_cast<double>(model.width), update, gradient, &oracle[i]);
      }
      optimizer.value()->Apply(update, 0, set.value()->all().size());
    }
    for (size_t i = 0; i < oracle.size(); ++i) {
      const Parameter& p = set.value()->all()[i];
      EXPECT_LE(RelativeDistance(ToDoubles(backend.get(), p.weight.value), oracle[i].value.values),
                1e-12)
          << p.spec.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, OptimizerOracleTest,
                         ::testing::Values(OptimizerKind::kMuon, OptimizerKind::kAdamW),
                         [](const auto& tested) {
                           return tested.param == OptimizerKind::kMuon ? "Muon" : "AdamW";
                         });

TEST(OptimizerStateTest, IsNamedByKindAndParameter) {
  const auto backend = kernels::MakeRefBackend(DType::kF32);
  auto set = ParameterSet::Create(SmallJob().model, backend.get());
  ASSERT_TRUE(set.ok());
  const ShardPlan plan(*set.value(), {});
  auto optimizer = Optimizer::Create(OptimizerConfig(), 16, *set.value(), plan, backend.get());
  ASSERT_TRUE(optimizer.ok());
  std::vector<std::string> names;
  for (const OptimizerState& state : optimizer.value()->state()) names.push_back(state.name);
  EXPECT_THAT(names,
              ::testing::IsSupersetOf({"optimizer/adam_m/transformer.wte.weight",
                                       "optimizer/adam_v/transformer.wte.weight",
                                       "optimizer/momentum/transformer.h.1.mlp.c_fc.weight",
                                       "optimizer/adam_v/transformer.h.0.attn.c_gate.weight"}));
  EXPECT_EQ(names.size(), 2U * 4 + 2U * 6);
}

}  // namespace
}  // namespace sinkforge::trainer
