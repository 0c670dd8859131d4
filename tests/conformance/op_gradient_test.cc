// The reference's other backward ops in float64 against central differences of its forward ops.
#include <gtest/gtest.h>

#include <random>

#include "kernels/ref/ref_backend.h"
#include "tests/conformance/central_differences.h"

namespace sinkforge::kernels::conformance {
namespace {

using Values = std::vector<double>;

constexpr double kTolerance = 1e-6;

Values Normal(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Values values(count);
  for (double& value : values) value = normal(random);
  return values;
}

double Dot(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

class OpGradientTest : public ::testing::Test {
 protected:
  const std::unique_ptr<Backend> backend_ = MakeRefBackend(DType::kF64);
};

TEST_F(OpGradientTest, RmsNorm) {
  constexpr double kEpsilon = 0.125;
  Values x = Normal(5 * 7, 1);
  Values d_y = Normal(5 * 7, 2);
  Values y(x.size()), rstd(5), d_x(x.size());
  const auto forward = [&](Values in) {
    backend_->RmsNorm(ViewOf(in, {5, 7}), kEpsilon, ViewOf(y, {5, 7}), ViewOf(rstd, {5}));
    return Dot(y, d_y);
  };
  const Values numeric = CentralDifferences(forward, x);
  forward(x);
  backend_->RmsNormBackward(ViewOf(d_y, {5, 7}), ViewOf(y, {5, 7}), ViewOf(rstd, {5}),
                            ViewOf(d_x, {5, 7}), WriteMode::kAssign);
  EXPECT_LE(RelativeError(d_x, numeric), kTolerance);
}

TEST_F(OpGradientTest, RopeNorm) {
  constexpr int64_t kSequence = 5, kHeads = 3, kHeadDim = 6;
  constexpr double kBase = 100;
  const Values x = Normal(2 * kSequence * kHeads * kHeadDim, 3);
  Values gradient = Normal(x.size(), 4);
  const Values weights = gradient;
  Values y(x.size()), rstd(2 * kSequence * kHeads);
  const auto forward = [&](const Values& in) {
    y = in;
    backend_->RopeNorm(ViewOf(y, {2 * kSequence, kHeads * kHeadDim}), kSequence, kHeads, kBase,
                       1e-12, ViewOf(rstd, {2 * kSequence, kHeads}));
    return Dot(y, weights);
  };
  const Values numeric = CentralDifferences(forward, x);
  forward(x);
  backend_->RopeNormBackward(ViewOf(gradient, {2 * kSequence, kHeads * kHeadDim}),
                             ViewOf(y, {2 * kSequence, kHeads * kHeadDim}),
                             ViewOf(rstd, {2 * kSequence, kHeads}), kSequence, kHeads, kBase);
  EXPECT_LE(RelativeError(gradient, numeric), kTolerance);
}

TEST_F(OpGradientTest, RopeTurnsNothingAtPositionZeroAndPairsByHalves) {
  // One head of 4 channels at positions 0 and 1, base 1: every pair turns by one radian a position.
  Values x = {1, 2, 3, 4, 1, 2, 3, 4};
  Values rstd(2);
  backend_->RopeNorm(ViewOf(x, {2, 4}), 2, 1, 1.0, 0.0, ViewOf(rstd, {2, 1}));
  const double norm = std::sqrt(30.0 / 4);
  EXPECT_NEAR(x[0], 1 / norm, 1e-15);
  EXPECT_NEAR(x[3], 4 / norm, 1e-15);
  EXPECT_NEAR(x[4], (std::cos(1.0) + 3 * std::sin(1.0)) / norm, 1e-15);
  EXPECT_NEAR(x[6], (-std::sin(1.0) + 3 * std::cos(1.0)) / norm, 1e-15);
}

TEST_F(OpGradientTest, Linear) {
  Values x = Normal(4 * 5, 5), w = Normal(3 * 5, 6), d_y = Normal(4 * 3, 7);
  Values y(4 * 3), d_x(x.size()), d_w(w.size());
  const auto loss = [&](Values a, Values b) {
    backend_->Linear(ViewOf(a, {4, 5}), ViewOf(b, {3, 5}), ViewOf(y, {4, 3}), WriteMode::kAssign);
    return Dot(y, d_y);
  };
  backend_->LinearBackwardInput(ViewOf(d_y, {4, 3}), ViewOf(w, {3, 5}), ViewOf(d_x, {4, 5}),
                                WriteMode::kAssign);
  backend_->LinearBackwardWeight(ViewOf(d_y, {4, 3}), ViewOf(x, {4, 5}), ViewOf(d_w, {3, 5}));
  const auto by_x = [&](const Values& a) { return loss(a, w); };
  const auto by_w = [&](const Values& b) { return loss(x, b); };
  EXPECT_LE(RelativeError(d_x, CentralDifferences(by_x, x)), kTolerance);
  EXPECT_LE(RelativeError(d_w, CentralDifferences(by_w, w)), kTolerance);
}

TEST_F(OpGradientTest, ReluSquared) {
  Values x = Normal(40, 8), d_y = Normal(40, 9), y(40), d_x(40);
  const auto forward = [&](Values in) {
    backend_->ReluSquared(ViewOf(in, {40}), ViewOf(y, {40}));
    return Dot(y, d_y);
  };
  const Values differences = CentralDifferences(forward, x);
  backend_->ReluSquared(ViewOf(x, {40}), ViewOf(y, {40}));
  backend_->ReluSquaredBackward(ViewOf(d_y, {40}), ViewOf(y, {40}), ViewOf(d_x, {40}));
  EXPECT_LE(RelativeError(d_x, differences), kTolerance);
}

TEST_F(OpGradientTest, SwiGlu) {
  Values gate = Normal(40, 14), up = Normal(40, 15), d_act = Normal(40, 16);
  for (double& value : gate) value *= 4;  // both of the sigmoid's ends
  Values act(40), d_gate(40), d_up(40), again(40);
  const auto loss = [&](Values a, Values b) {
    backend_->SwiGlu(ViewOf(a, {40}), ViewOf(b, {40}), ViewOf(act, {40}));
    return Dot(act, d_act);
  };
  const auto by_gate = [&](const Values& a) { return loss(a, up); };
  const auto by_up = [&](const Values& b) { return loss(gate, b); };
  backend_->SwiGluBackward({ViewOf(d_act, {40}), ViewOf(gate, {40}), ViewOf(up, {40}),
                            ViewOf(d_gate, {40}), ViewOf(d_up, {40}), ViewOf(again, {40})});
  EXPECT_LE(RelativeError(d_gate, CentralDifferences(by_gate, gate)), kTolerance);
  EXPECT_LE(RelativeError(d_up, CentralDifferences(by_up, up)), kTolerance);
}

TEST_F(OpGradientTest, Embedding) {
  std::vector<int32_t> ids = {2, 0, 2, 1};
  const Tensor tokens(ids.data(), DType::kI32, {4});
  Values table = Normal(3 * 2, 10), d_out = Normal(4 * 2, 11), out(4 * 2), d_table(3 * 2);
  const auto forward = [&](Values in) {
    backend_->Embedding(tokens, ViewOf(in, {3, 2}), ViewOf(out, {4, 2}));
    return Dot(out, d_out);
  };
  backend_->EmbeddingBackward(tokens, ViewOf(d_out, {4, 2}), ViewOf(d_table, {3, 2}));
  EXPECT_LE(RelativeError(d_table, CentralDifferences(forward, table)), kTolerance);
}

class CrossEntropyGradientTest : public ::testing::TestWithParam<double> {};

TEST_P(CrossEntropyGradientTest, MatchesDifferencesOfTheScaledSum) {
  const auto backend = MakeRefBackend(DType::kF64);
  std::vector<int32_t> targets = {3, -1, 0, 6, 3};
  Values x = Normal(5 * 4, 12), w = Normal(7 * 4, 13);
  CrossEntropyArgs args;
  args.targets = Tensor(targets.data(), DType::kI32, {5});
  args.softcap = GetParam();
  args.loss_scale = 0.3;
  Values losses(5), d_x(x.size()), d_w(w.size());
  args.losses = ViewOf(losses, {5});
  const auto loss = [&](Values a, Values b) {
    CrossEntropyArgs forward = args;
    forward.x = ViewOf(a, {5, 4});
    forward.w = ViewOf(b, {7, 4});
    backend->CrossEntropy(forward);
    EXPECT_EQ(losses[1], 0);
    double sum = 0;
    for (double value : losses) sum += value;
    return 0.3 * sum;
  };
  const Values by_x = CentralDifferences([&](const Values& a) { return loss(a, w); }, x);
  const Values by_w = CentralDifferences([&](const Values& b) { return loss(x, b); }, w);
  args.x = ViewOf(x, {5, 4});
  args.w = ViewOf(w, {7, 4});
  args.d_x = ViewOf(d_x, {5, 4});
  args.d_w = ViewOf(d_w, {7, 4});
  backend->CrossEntropy(args);
  EXPECT_LE(RelativeError(d_x, by_x), kTolerance);
  EXPECT_LE(RelativeError(d_w, by_w), kTolerance);
}

// No cap, a cap that hardly bends, one that bends strongly.
INSTANTIATE_TEST_SUITE_P(Softcaps, CrossEntropyGradientTest, ::testing::Values(0.0, 15.0, 1.5));

}  // namespace
}  // namespace sinkforge::kernels::conformance
