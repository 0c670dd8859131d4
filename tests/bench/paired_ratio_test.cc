// Tests of the paired benchmark's statistics.
#include "tests/bench/paired_ratio.h"

#include <gtest/gtest.h>

namespace sinkforge::bench {
namespace {

TEST(MedianTest, IsTheMiddleOrTheMeanOfTheTwoMiddleValues) {
  EXPECT_DOUBLE_EQ(Median({3, 1, 2}), 2);
  EXPECT_DOUBLE_EQ(Median({4, 1, 3, 2}), 2.5);
  EXPECT_DOUBLE_EQ(Median({7}), 7);
}

TEST(BootstrapMedianTest, HasNoWidthWhereAllRatiosAreEqual) {
  const Interval interval = BootstrapMedian(std::vector<double>(50, 1.25), 200);
  EXPECT_DOUBLE_EQ(interval.median, 1.25);
  EXPECT_DOUBLE_EQ(interval.low, 1.25);
  EXPECT_DOUBLE_EQ(interval.high, 1.25);
}

TEST(BootstrapMedianTest, IntervalNarrowsWithMorePairs) {
  const auto width = [](int pairs) {
    std::vector<double> ratios;
    for (int i = 0; i < pairs; ++i) ratios.push_back(1 + 0.1 * ((i * 37) % 101 - 50) / 50.0);
    const Interval interval = BootstrapMedian(ratios, 500);
    EXPECT_LE(interval.low, interval.median);
    EXPECT_GE(interval.high, interval.median);
    return interval.high - interval.low;
  };
  EXPECT_LT(width(1000), width(40));
}

TEST(JudgeTest, SaysNotResolvedWhereTheLimitIsInsideTheInterval) {
  EXPECT_EQ(Judge({.median = 1.0, .low = 0.99, .high = 1.01}, 1.01), Verdict::kWithin);
  EXPECT_EQ(Judge({.median = 1.0, .low = 0.99, .high = 1.02}, 1.01), Verdict::kNotResolved);
  EXPECT_EQ(Judge({.median = 1.03, .low = 1.02, .high = 1.05}, 1.01), Verdict::kAbove);
}

}  // namespace
}  // namespace sinkforge::bench
