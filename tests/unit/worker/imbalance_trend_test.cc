// ImbalanceTrend: steady, rising and falling attempts, and the first steps of one.
#include "worker/agent/imbalance_trend.h"

#include <limits>

#include "gtest/gtest.h"

namespace sinkforge::worker {
namespace {

constexpr int kMean = ImbalanceTrend::kMeanSteps;
constexpr int kApart = ImbalanceTrend::kApartSteps;

void AddMany(int steps, double imbalance, ImbalanceTrend* trend) {
  for (int step = 0; step < steps; ++step) trend->Add(imbalance);
}

TEST(ImbalanceTrendTest, SaysNothingBeforeThereAreEnoughSteps) {
  ImbalanceTrend trend;
  AddMany(kMean - 1, 0.5, &trend);
  EXPECT_FALSE(trend.mean().has_value());
  trend.Add(0.5);
  EXPECT_DOUBLE_EQ(trend.mean().value(), 0.5);
  AddMany(kApart - 1, 0.5, &trend);
  EXPECT_FALSE(trend.least().has_value());
  trend.Add(0.5);
  EXPECT_DOUBLE_EQ(trend.least().value(), 0.5);
}

TEST(ImbalanceTrendTest, ComparesARiseWithTheLeastOfTheAttempt) {
  ImbalanceTrend trend;
  AddMany(kMean, 0.8, &trend);
  AddMany(kMean, 0.1, &trend);  // its best
  for (int step = 1; step <= 1000; ++step) trend.Add(0.1 + 0.0005 * step);
  EXPECT_NEAR(trend.mean().value(), 0.1 + 0.0005 * (1000 - (kMean - 1) / 2.0), 1e-12);
  EXPECT_NEAR(trend.least().value(), 0.1, 1e-12) << "however slow the rise is";
}

TEST(ImbalanceTrendTest, AFallIsBelowItsLeast) {
  ImbalanceTrend trend;
  for (int step = 0; step < 500; ++step) trend.Add(1 - 0.001 * step);
  EXPECT_LT(trend.mean().value(), trend.least().value());
}

TEST(ImbalanceTrendTest, LeavesOutWhatIsNoNumber) {
  ImbalanceTrend trend;
  AddMany(kMean, 0.25, &trend);
  trend.Add(std::numeric_limits<double>::quiet_NaN());
  trend.Add(std::numeric_limits<double>::infinity());
  EXPECT_DOUBLE_EQ(trend.mean().value(), 0.25);
}

}  // namespace
}  // namespace sinkforge::worker
