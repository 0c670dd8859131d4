// The vector functions at every processor level, over every float32 in their range with a stride,
// against the C library in float64.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/simd_kernels.h"

namespace sinkforge::kernels {
namespace {

class SimdTest : public ::testing::TestWithParam<SimdLevel> {
 protected:
  // Largest error in units in the last place over the floats of [low, high].
  template <typename Exact>
  double WorstUlps(void (*function)(const float*, int64_t, float*), Exact exact, float low,
                   float high) {
    // Consecutive bit patterns are consecutive floats; a prime stride leaves a few million.
    std::vector<float> x;
    const auto add = [&x](float from, float to) {
      for (uint32_t bits = std::bit_cast<uint32_t>(from); bits <= std::bit_cast<uint32_t>(to);
           bits += 997) {
        x.push_back(std::bit_cast<float>(bits));
      }
    };
    if (low < 0) {
      add(std::numeric_limits<float>::min(), -low);
      for (float& value : x) value = -value;
    }
    add(std::max(low, std::numeric_limits<float>::min()), high);
    std::vector<float> y(x.size());
    function(x.data(), static_cast<int64_t>(x.size()), y.data());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = exact(static_cast<double>(x[i]));
      const float rounded = std::abs(static_cast<float>(want));
      const double ulp =
          static_cast<double>(std::nextafter(rounded, std::numeric_limits<float>::infinity())) -
          static_cast<double>(rounded);
      worst = std::max(worst, std::abs(static_cast<double>(y[i]) - want) / ulp);
    }
    return worst;
  }

  float One(void (*function)(const float*, int64_t, float*), float x) {
    float y = 0;
    function(&x, 1, &y);
    return y;
  }

  const SimdKernels* Kernels() const { return FindSimdKernels(GetParam()); }
};

TEST_P(SimdTest, ExpIsWithinTwoUlps) {
  const SimdKernels* kernels = Kernels();
  if (kernels == nullptr) return;  // This processor lacks the level; the others are tested.
  const double worst = WorstUlps(
      kernels->exp, [](double x) { return std::exp(x); }, -87.33F, 88.3F);
  RecordProperty("worst_ulps", std::to_string(worst));
  EXPECT_LT(worst, 2.0);
}

TEST_P(SimdTest, ExpAtItsEdges) {
  const SimdKernels* kernels = Kernels();
  if (kernels == nullptr) return;
  EXPECT_EQ(One(kernels->exp, 0.0F), 1.0F);
  EXPECT_EQ(One(kernels->exp, -88.0F), 0.0F);
  EXPECT_EQ(One(kernels->exp, -std::numeric_limits<float>::infinity()), 0.0F);
  EXPECT_GT(One(kernels->exp, std::numeric_limits<float>::infinity()), 2e38F);
  // A NaN must come through, whatever its payload: it is how a broken loss is found.
  for (uint32_t bits : {0x7fc00000U, 0xffc00000U, 0x7fc00081U, 0x7fffffffU}) {
    EXPECT_TRUE(std::isnan(One(kernels->exp, std::bit_cast<float>(bits)))) << bits;
    EXPECT_TRUE(std::isnan(One(kernels->log, std::bit_cast<float>(bits)))) << bits;
    EXPECT_TRUE(std::isnan(One(kernels->tanh, std::bit_cast<float>(bits)))) << bits;
  }
}

TEST_P(SimdTest, LogIsWithinTwoUlps) {
  const SimdKernels* kernels = Kernels();
  if (kernels == nullptr) return;
  const double worst = WorstUlps(
      kernels->log, [](double x) { return std::log(x); }, 1e-30F, 1e30F);
  RecordProperty("worst_ulps", std::to_string(worst));
  EXPECT_LT(worst, 2.0);
  EXPECT_EQ(One(kernels->log, 1.0F), 0.0F);
}

TEST_P(SimdTest, TanhIsWithinFourUlps) {
  const SimdKernels* kernels = Kernels();
  if (kernels == nullptr) return;
  const double worst = WorstUlps(
      kernels->tanh, [](double x) { return std::tanh(x); }, -30.0F, 30.0F);
  RecordProperty("worst_ulps", std::to_string(worst));
  EXPECT_LT(worst, 4.0);
}

// The backward sees the square alone and gets the same slope as from what was squared.
TEST_P(SimdTest, TheRootOfASquareIsWhatWasSquared) {
  const SimdKernels* kernels = Kernels();
  if (kernels == nullptr) return;
  std::vector<float> x;
  for (uint32_t bits = std::bit_cast<uint32_t>(1.1e-19F); bits < std::bit_cast<uint32_t>(1.8e19F);
       bits += 997) {
    x.push_back((bits % 2 == 0 ? 1.0F : -1.0F) * std::bit_cast<float>(bits));
  }
  const auto n = static_cast<int64_t>(x.size());
  std::vector<float> squares(x.size());
  kernels->relu_squared(x.data(), n, squares.data());
  std::vector<float> slopes(x.size(), 0.75F);
  kernels->relu_squared_backward(slopes.data(), squares.data(), n, slopes.data());
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(slopes[i], 0.75F * 2.0F * std::max(x[i], 0.0F)) << x[i];
  }
  const float nan = One(kernels->relu_squared, std::numeric_limits<float>::quiet_NaN());
  float slope = 1;
  kernels->relu_squared_backward(&slope, &nan, 1, &slope);
  EXPECT_TRUE(std::isnan(slope));
}

double Silu(double gate) { return gate / (1 + std::exp(-gate)); }

TEST_P(SimdTest, SwiGluAtItsEdges) {
  const SimdKernels* kernels = Kernels();
  if (kernels == nullptr) return;
  constexpr float kUp = 0.75F;
  const auto swiglu = [&](float gate) {
    float act = 0;
    kernels->swiglu(&gate, &kUp, 1, &act);
    return act;
  };
  for (float gate = -86.0F; gate < 86.0F; gate += 0.037F) {
    const double want = Silu(static_cast<double>(gate)) * 0.75;
    EXPECT_NEAR(static_cast<double>(swiglu(gate)), want, 8e-7 * std::abs(want)) << gate;
  }
  EXPECT_EQ(swiglu(0.0F), 0.0F);
  EXPECT_EQ(swiglu(1e30F), 1e30F * kUp);
  // What the exponential leaves where it saturates, times the gate, would be 4e-9.
  for (const float gate : {-100.0F, -1e30F}) EXPECT_EQ(swiglu(gate), 0.0F) << gate;
  EXPECT_TRUE(std::isnan(swiglu(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(swiglu(-std::numeric_limits<float>::infinity())));
}

TEST_P(SimdTest, SwiGluBackwardMayWriteOverWhatItReads) {
  const SimdKernels* kernels = Kernels();
  if (kernels == nullptr) return;
  for (int64_t n = 0; n <= 40; ++n) {
    const auto size = static_cast<size_t>(n);
    // One more than n, which nobody may touch.
    std::vector<float> d(size + 1, 0.5F), gate(size + 1, 7.0F), up(size + 1, -3.0F);
    for (size_t i = 0; i < size; ++i) gate[i] = 0.3F * static_cast<float>(i) - 6.0F;
    const std::vector<float> gates = gate;
    std::vector<float> act(size), d_gate(size), d_up(size), again(size);
    kernels->swiglu(gate.data(), up.data(), n, act.data());
    kernels->swiglu_backward(d.data(), gate.data(), up.data(), n, d_gate.data(), d_up.data(),
                             again.data());
    EXPECT_EQ(again, act);
    kernels->swiglu_backward(d.data(), gate.data(), up.data(), n, gate.data(), up.data(), d.data());
    for (size_t i = 0; i < size; ++i) {
      EXPECT_EQ(d[i], act[i]) << n;
      EXPECT_EQ(gate[i], d_gate[i]) << n;
      EXPECT_EQ(up[i], d_up[i]) << n;
      const auto a = static_cast<double>(gates[i]);
      const double s = 1 / (1 + std::exp(-a));
      EXPECT_NEAR(static_cast<double>(d_up[i]), 0.5 * Silu(a), 1e-6) << a;
      EXPECT_NEAR(static_cast<double>(d_gate[i]), -1.5 * s * (1 + a * (1 - s)), 1e-6) << a;
    }
    EXPECT_EQ(d.back(), 0.5F);
    EXPECT_EQ(gate.back(), 7.0F);
    EXPECT_EQ(up.back(), -3.0F);
  }
}

TEST_P(SimdTest, ShortArraysAreNotOverrun) {
  const SimdKernels* kernels = Kernels();
  if (kernels == nullptr) return;
  for (int64_t n = 0; n <= 40; ++n) {
    std::vector<float> x(static_cast<size_t>(n), 0.5F);
    std::vector<float> y(static_cast<size_t>(n) + 1, 7.0F);
    kernels->exp(x.data(), n, y.data());
    EXPECT_EQ(y.back(), 7.0F) << n;
    for (int64_t i = 0; i < n; ++i) EXPECT_NEAR(y[static_cast<size_t>(i)], std::exp(0.5F), 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, SimdTest,
                         ::testing::Values(SimdLevel::kBaseline, SimdLevel::kAvx2,
                                           SimdLevel::kAvx512),
                         [](const auto& param_info) {
                           switch (param_info.param) {
                             case SimdLevel::kBaseline:
                               return "Baseline";
                             case SimdLevel::kAvx2:
                               return "Avx2";
                             case SimdLevel::kAvx512:
                               break;
                           }
                           return "Avx512";
                         });

TEST(SimdLevelTest, BestIsTheWidestThatExists) {
  const SimdKernels* widest = FindSimdKernels(SimdLevel::kBaseline);
  ASSERT_NE(widest, nullptr);
  for (SimdLevel level : {SimdLevel::kAvx2, SimdLevel::kAvx512}) {
    if (FindSimdKernels(level) != nullptr) widest = FindSimdKernels(level);
  }
  EXPECT_EQ(&BestSimdKernels(), widest);
}

}  // namespace
}  // namespace sinkforge::kernels
