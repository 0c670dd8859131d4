// Drawing tokens: what each setting leaves, and the shares of what is left.
#include "worker/trainer/core/token_sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

namespace sinkforge::trainer {
namespace {

// Probabilities 0.5, 0.25, 0.125, 0.125 at temperature 1.
const std::vector<double> kLogits = {std::log(0.125), std::log(0.5), std::log(0.125),
                                     std::log(0.25)};

std::map<int32_t, double> Shares(const SamplingOptions& options) {
  constexpr int kDraws = 40'000;
  TokenSampler sampler(options);
  std::map<int32_t, double> shares;
  for (int i = 0; i < kDraws; ++i) shares[sampler.Draw(kLogits).value()] += 1.0 / kDraws;
  return shares;
}

// Five standard deviations of a share of 1/2 over 40,000 draws; the seed is fixed.
constexpr double kTolerance = 0.0125;

TEST(TokenSamplerTest, DrawsByProbability) {
  const auto shares = Shares({});
  EXPECT_NEAR(shares.at(1), 0.5, kTolerance);
  EXPECT_NEAR(shares.at(3), 0.25, kTolerance);
  EXPECT_NEAR(shares.at(0), 0.125, kTolerance);
  EXPECT_NEAR(shares.at(2), 0.125, kTolerance);
}

TEST(TokenSamplerTest, TemperatureSharpensOrTakesTheLikeliest) {
  SamplingOptions options;
  options.temperature = 0.5;  // squares the probabilities: 16, 4, 1, 1 of 22
  EXPECT_NEAR(Shares(options).at(1), 16.0 / 22, kTolerance);
  options.temperature = 0;
  EXPECT_EQ(Shares(options).size(), 1U);
  EXPECT_EQ(TokenSampler(options).Draw(std::vector<double>{1, 2, 2}).value(), 1);
}

TEST(TokenSamplerTest, TopKLeavesTheKLikeliest) {
  SamplingOptions options;
  options.top_k = 2;
  const auto shares = Shares(options);
  EXPECT_EQ(shares.size(), 2U);
  EXPECT_NEAR(shares.at(1), 2.0 / 3, kTolerance);
  options.top_k = 100;
  EXPECT_EQ(Shares(options).size(), 4U);
}

TEST(TokenSamplerTest, TopPLeavesTheFewestThatReachIt) {
  SamplingOptions options;
  options.top_p = 0.5;
  EXPECT_EQ(Shares(options).size(), 1U);
  options.top_p = 0.7;
  EXPECT_EQ(Shares(options).size(), 2U);
  options.top_p = 0.8;
  const auto shares = Shares(options);
  EXPECT_EQ(shares.size(), 3U);
  EXPECT_TRUE(shares.count(0));  // of the two equal ones the lower id
}

TEST(TokenSamplerTest, TheSeedDecides) {
  SamplingOptions options;
  const auto sequence = [&] {
    TokenSampler sampler(options);
    std::vector<int32_t> drawn;
    for (int i = 0; i < 50; ++i) drawn.push_back(sampler.Draw(kLogits).value());
    return drawn;
  };
  const std::vector<int32_t> once = sequence();
  EXPECT_EQ(sequence(), once);
  options.seed = 2;
  EXPECT_NE(sequence(), once);
}

TEST(TokenSamplerTest, LogitsThatAreNotFiniteAreAnErrorAtEveryTemperature) {
  const double inf = std::numeric_limits<double>::infinity();
  for (const double temperature : {0.0, 1.0}) {
    SamplingOptions options;
    options.temperature = temperature;
    for (const double bad : {std::nan(""), inf, -inf}) {
      const auto drawn = TokenSampler(options).Draw(std::vector<double>{1, bad, 2});
      EXPECT_EQ(drawn.status().code(), kernels::StatusCode::kNonFinite) << bad;
    }
  }
}

}  // namespace
}  // namespace sinkforge::trainer
