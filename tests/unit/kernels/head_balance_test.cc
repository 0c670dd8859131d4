// The head-balance arithmetic: values by hand, gradients against central differences, edges.
#include "kernels/head_balance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace sinkforge::kernels {
namespace {

using Values = std::vector<double>;

constexpr double kPositions = 64;

HeadBalance Compute(const HeadBalanceConfig& config, int64_t layers, int64_t heads,
                    const Values& sums, const Values& counts = {}) {
  HeadBalance out;
  ComputeHeadBalance(config,
                     {.layers = layers,
                      .heads = heads,
                      .positions = kPositions,
                      .gate_sums = sums,
                      .argmax_counts = counts},
                     &out);
  return out;
}

Values PositiveSums(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(5, 60);
  Values values(count);
  for (double& value : values) value = uniform(random);
  return values;
}

// d aux_loss / d (sum of gates), which is what a gradient of every G of the head adds up to.
void ExpectGradientOfLoss(const HeadBalanceConfig& config, int64_t layers, int64_t heads,
                          const Values& sums, const Values& counts = {}) {
  const HeadBalance balance = Compute(config, layers, heads, sums, counts);
  double largest = 0;
  for (double g : balance.gradient) largest = std::max(largest, std::abs(g));
  for (size_t i = 0; i < sums.size(); ++i) {
    constexpr double kStep = 1e-4;
    Values above = sums;
    Values below = sums;
    above[i] += kStep;
    below[i] -= kStep;
    const double numeric = (Compute(config, layers, heads, above, counts).aux_loss -
                            Compute(config, layers, heads, below, counts).aux_loss) /
                           (2 * kStep);
    EXPECT_NEAR(balance.gradient[i], numeric, 1e-7 * largest) << i;
  }
}

TEST(HeadBalanceTest, ImportanceCvAndImbalanceByHand) {
  const HeadBalance balance = Compute({}, 2, 2, {16, 48, 32, 32});
  EXPECT_EQ(balance.importance, (Values{0.25, 0.75, 0.5, 0.5}));
  EXPECT_DOUBLE_EQ(balance.layer_cv[0], 0.5);
  EXPECT_EQ(balance.layer_cv[1], 0.0);
  EXPECT_DOUBLE_EQ(balance.imbalance, 0.25);
  EXPECT_EQ(balance.aux_loss, 0.0);
  EXPECT_EQ(balance.gradient, Values(4, 0.0));
}

TEST(HeadBalanceTest, Equation7IsCoefficientTimesHeadsTimesSquaredCv) {
  const HeadBalance balance =
      Compute({.loss = BalanceLoss::kCv, .coefficient = 0.1}, 2, 2, {16, 48, 32, 32});
  EXPECT_DOUBLE_EQ(balance.aux_loss, 0.1 * 2 * 0.25);
}

TEST(HeadBalanceTest, Equation7Gradient) {
  ExpectGradientOfLoss({.loss = BalanceLoss::kCv, .coefficient = 1}, 3, 5, PositiveSums(15, 1));
}

TEST(HeadBalanceTest, Equation8GradientLeavesSharedHeadsOut) {
  const HeadBalanceConfig config = {.loss = BalanceLoss::kCv, .coefficient = 1, .shared_heads = 2};
  const Values sums = {10, 60, 20, 50, 30};
  ExpectGradientOfLoss(config, 1, 5, sums);
  const HeadBalance balance = Compute(config, 1, 5, sums);
  EXPECT_EQ(balance.gradient[1], 0.0);
  EXPECT_EQ(balance.gradient[3], 0.0);
  // CV^2 of {10, 20, 30}: variance 200/3, mean 20.
  EXPECT_NEAR(balance.aux_loss, 3 * (200.0 / 3) / 400, 1e-12);
  // The reported CV is over all heads.
  EXPECT_NEAR(balance.layer_cv[0],
              std::sqrt((24 * 24 + 26 * 26 + 14 * 14 + 16 * 16 + 4 * 4) / 5.0) / 34, 1e-12);
}

TEST(HeadBalanceTest, TiesForSharedHeadsGoToTheLowerIndex) {
  const HeadBalance balance = Compute(
      {.loss = BalanceLoss::kCv, .coefficient = 1, .shared_heads = 1}, 1, 4, {40, 50, 50, 20});
  EXPECT_EQ(balance.gradient[1], 0.0);
  EXPECT_GT(balance.gradient[2], 0.0);
}

TEST(HeadBalanceTest, MostSharedHeadsThatAreAllowed) {
  ExpectGradientOfLoss({.loss = BalanceLoss::kCv, .coefficient = 1, .shared_heads = 3}, 2, 5,
                       PositiveSums(10, 2));
}

TEST(HeadBalanceTest, EqualHeadsHaveNoGradient) {
  const HeadBalance balance =
      Compute({.loss = BalanceLoss::kCv, .coefficient = 1}, 1, 4, {32, 32, 32, 32});
  EXPECT_EQ(balance.gradient, Values(4, 0.0));
}

TEST(HeadBalanceTest, ClosedHeadsAreBoundedAndDropTheMeanTerm) {
  // A mean importance of 5e-7, below the bound of 1e-6.
  const Values sums = {kPositions * 2e-7, kPositions * 8e-7};
  const HeadBalance balance = Compute({.loss = BalanceLoss::kCv, .coefficient = 1}, 1, 2, sums);
  EXPECT_NEAR(balance.aux_loss, 2 * 9e-14 / 1e-12, 1e-9);
  EXPECT_NEAR(balance.gradient[0] * kPositions, 2 / 1e-12 * -3e-7, 1e-3);
  EXPECT_NEAR(balance.gradient[1] * kPositions, 2 / 1e-12 * 3e-7, 1e-3);
  const HeadBalance zero =
      Compute({.loss = BalanceLoss::kSwitch, .coefficient = 1}, 1, 2, {0, 0}, {64, 0});
  EXPECT_EQ(zero.aux_loss, 0.0);
  EXPECT_TRUE(std::isfinite(zero.gradient[0]));
}

TEST(HeadBalanceTest, SwitchByHandAndGradient) {
  const HeadBalanceConfig config = {.loss = BalanceLoss::kSwitch, .coefficient = 0.5};
  // f = {3/4, 1/4}, p = {1/4, 3/4}: H sum f p = 2 * 6/16.
  const HeadBalance balance = Compute(config, 1, 2, {16, 48}, {48, 16});
  EXPECT_DOUBLE_EQ(balance.aux_loss, 0.5 * 2 * 6 / 16);
  ExpectGradientOfLoss(config, 2, 3, PositiveSums(6, 3), {10, 20, 34, 64, 0, 0});
}

TEST(HeadBalanceTest, NanReachesTheReport) {
  const HeadBalance balance =
      Compute({.loss = BalanceLoss::kCv, .coefficient = 1}, 1, 2, {std::nan(""), 1});
  EXPECT_TRUE(std::isnan(balance.imbalance));
  EXPECT_TRUE(std::isnan(balance.aux_loss));
}

TEST(HeadBalanceTest, VectorsKeepTheirMemory) {
  HeadBalance out;
  const Values sums = PositiveSums(12, 4);
  const HeadBalanceInput input = {
      .layers = 3, .heads = 4, .positions = kPositions, .gate_sums = sums, .argmax_counts = {}};
  const HeadBalanceConfig config = {.loss = BalanceLoss::kCv, .coefficient = 1};
  ComputeHeadBalance(config, input, &out);
  const double* before = out.gradient.data();
  ComputeHeadBalance(config, input, &out);
  EXPECT_EQ(out.gradient.data(), before);
}

TEST(HeadBalanceDeathTest, TooManySharedHeadsIsABug) {
  EXPECT_DEATH(
      Compute({.loss = BalanceLoss::kCv, .coefficient = 1, .shared_heads = 3}, 1, 4, {1, 2, 3, 4}),
      "shared_heads");
}

}  // namespace
}  // namespace sinkforge::kernels
