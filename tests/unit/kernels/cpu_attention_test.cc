// What the conformance table's norms do not see of the CPU's attention: gates near zero keep their
// relative accuracy, row 0 of vanilla is exactly closed, NaN comes through, and the baseline for
// the benchmark differs in nothing but its missing terms.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/attention_baseline.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/ref/ref_backend.h"

namespace sinkforge::kernels {
namespace {

constexpr AttentionShape kShape = {
    .batch = 1, .sequence = 150, .heads = 2, .kv_heads = 2, .head_dim = 32};
constexpr int64_t kRows = 150, kWidth = 64;

template <typename Real>
struct Buffers {
  explicit Buffers(DType type) : dtype(type) {
    std::mt19937_64 random(1);
    std::normal_distribution<double> normal;
    for (auto* x : {&q, &k, &v, &d_out}) {
      for (Real& value : *x) {
        value = static_cast<Real>(static_cast<float>(normal(random)));
      }
    }
  }
  Tensor Wide(std::vector<Real>& x) { return Tensor(x.data(), dtype, {kRows, kWidth}); }
  Tensor Stat(std::vector<Real>& x) { return Tensor(x.data(), dtype, {1, 2, kRows}); }

  void Forward(Backend* backend, const AttentionConfig& config) {
    AttentionForwardArgs args;
    args.q = Wide(q);
    args.k = Wide(k);
    args.v = Wide(v);
    args.sinks = Tensor(sinks.data(), dtype, {2});
    args.out = Wide(out);
    args.lse = Stat(lse);
    args.gate = Stat(gate);
    args.importance_sum = Tensor(importance.data(), DType::kF64, {2});
    backend->AttentionForward(config, kShape, args);
  }
  void Backward(Backend* backend, const AttentionConfig& config) {
    AttentionBackwardArgs args;
    args.q = Wide(q);
    args.k = Wide(k);
    args.v = Wide(v);
    args.sinks = Tensor(sinks.data(), dtype, {2});
    args.out = Wide(out);
    args.lse = Stat(lse);
    args.gate = Stat(gate);
    args.d_out = Wide(d_out);
    args.importance_gradient = Tensor(g.data(), DType::kF64, {2});
    args.d_q = Wide(d_q);
    args.d_k = Wide(d_k);
    args.d_v = Wide(d_v);
    args.d_sinks = Tensor(d_sinks.data(), dtype, {2});
    backend->AttentionBackward(config, kShape, args);
  }

  DType dtype;
  std::vector<Real> q = std::vector<Real>(kRows * kWidth), k = q, v = q, out = q, d_out = q;
  std::vector<Real> d_q = q, d_k = q, d_v = q;
  std::vector<Real> lse = std::vector<Real>(2 * kRows), gate = lse;
  std::vector<Real> sinks = {0.5, -0.25}, d_sinks = {0, 0};
  std::vector<double> importance = {0, 0}, g = {0, 0};
};

AttentionConfig ConfigOf(AttentionVariant variant) {
  AttentionConfig config;
  config.variant = variant;
  return config;
}

double RelativeDistance(const std::vector<float>& tested, const std::vector<double>& oracle) {
  double distance = 0;
  double size = 0;
  for (size_t i = 0; i < oracle.size(); ++i) {
    distance += (tested[i] - oracle[i]) * (tested[i] - oracle[i]);
    size += oracle[i] * oracle[i];
  }
  return std::sqrt(distance / size);
}

// Each product rounds both operands by 2^-9 at most; the longest chain, of dQ and dK, has three.
TEST(CpuAttentionTest, Bfloat16ProductsKeepBfloat16sAccuracy) {
  constexpr double kBound = 6.0 / 512;
  if (!ProcessorMultipliesBfloat16()) {
    EXPECT_EQ(BestSimdKernels().attention_bfloat16 != nullptr, BestSimdKernels().lanes == 16);
    return;
  }
  for (const AttentionVariant variant : {AttentionVariant::kVanilla, AttentionVariant::kSink}) {
    for (const int threads : {1, 3}) {
      CpuBackendOptions options;
      options.threads = threads;
      options.products = ProductPrecision::kBfloat16;
      const auto backend = MakeCpuBackend(options);
      const auto exact = MakeRefBackend(DType::kF64);
      Buffers<float> tested(DType::kF32);
      Buffers<double> oracle(DType::kF64);
      tested.g = oracle.g = {0.25, -0.5};
      tested.Forward(backend.get(), ConfigOf(variant));
      oracle.Forward(exact.get(), ConfigOf(variant));
      tested.Backward(backend.get(), ConfigOf(variant));
      oracle.Backward(exact.get(), ConfigOf(variant));
      EXPECT_LE(RelativeDistance(tested.out, oracle.out), kBound);
      EXPECT_LE(RelativeDistance(tested.lse, oracle.lse), kBound);
      EXPECT_LE(RelativeDistance(tested.gate, oracle.gate), kBound);
      EXPECT_LE(RelativeDistance(tested.d_q, oracle.d_q), kBound);
      EXPECT_LE(RelativeDistance(tested.d_k, oracle.d_k), kBound);
      EXPECT_LE(RelativeDistance(tested.d_v, oracle.d_v), kBound);
      // Rounded for good: float32 alone is a thousand times nearer.
      EXPECT_GE(RelativeDistance(tested.d_q, oracle.d_q), 1e-4);
    }
  }
}

void ExpectSmallGatesAreAccurate(AttentionVariant variant) {
  Buffers<float> tested(DType::kF32);
  Buffers<double> exact(DType::kF64);
  const auto close = [&](auto& b) {
    if (variant == AttentionVariant::kSink) {
      b.sinks = {14, 16};
      return;
    }
    // The first key is what every query looks for.
    for (int64_t t = 0; t < kRows; ++t) b.q[static_cast<size_t>(t * kWidth)] = 8;
    for (int64_t t = 0; t < kRows; ++t) b.q[static_cast<size_t>(t * kWidth + 32)] = 8;
    b.k[0] = 12;
    b.k[32] = 12;
  };
  close(tested);
  close(exact);
  tested.Forward(MakeCpuBackend(2).get(), ConfigOf(variant));
  exact.Forward(MakeRefBackend(DType::kF64).get(), ConfigOf(variant));
  double smallest = 1;
  for (size_t i = 0; i < exact.gate.size(); ++i) {
    if (exact.gate[i] > 0) smallest = std::min(smallest, exact.gate[i]);
    // Logits of up to 20, known to a unit in the last place, move an exponential by 4e-6.
    EXPECT_NEAR(tested.gate[i], exact.gate[i], 1e-5 * exact.gate[i]) << i;
  }
  EXPECT_LT(smallest, 1e-5);
}

TEST(CpuAttentionTest, VanillaGatesNearZeroDoNotCancel) {
  ExpectSmallGatesAreAccurate(AttentionVariant::kVanilla);
}

TEST(CpuAttentionTest, SinkGatesNearZeroDoNotCancel) {
  ExpectSmallGatesAreAccurate(AttentionVariant::kSink);
}

TEST(CpuAttentionTest, FirstRowOfVanillaIsExactlyClosed) {
  Buffers<float> b(DType::kF32);
  b.Forward(MakeCpuBackend(1).get(), ConfigOf(AttentionVariant::kVanilla));
  EXPECT_EQ(b.gate[0], 0.0F);
  EXPECT_EQ(b.gate[kRows], 0.0F);
}

TEST(CpuAttentionTest, HugeLogitsStayFinite) {
  for (AttentionVariant variant : {AttentionVariant::kVanilla, AttentionVariant::kSink}) {
    Buffers<float> b(DType::kF32);
    for (float& x : b.q) x *= 300;
    b.sinks = {-2000, 2000};
    b.g = {1, 1};
    const auto backend = MakeCpuBackend(2);
    b.Forward(backend.get(), ConfigOf(variant));
    b.Backward(backend.get(), ConfigOf(variant));
    for (const auto* values : {&b.out, &b.lse, &b.gate, &b.d_q, &b.d_k, &b.d_v, &b.d_sinks}) {
      for (float value : *values) ASSERT_TRUE(std::isfinite(value));
    }
  }
}

TEST(CpuAttentionTest, NanComesThrough) {
  Buffers<float> b(DType::kF32);
  b.k[5 * kWidth] = std::numeric_limits<float>::quiet_NaN();
  b.Forward(MakeCpuBackend(2).get(), ConfigOf(AttentionVariant::kVanilla));
  EXPECT_FALSE(std::isnan(b.out[4 * kWidth]));
  EXPECT_TRUE(std::isnan(b.out[5 * kWidth]));
  EXPECT_TRUE(std::isnan(b.out[149 * kWidth]));
  EXPECT_TRUE(std::isnan(b.importance[0]));
  EXPECT_FALSE(std::isnan(b.importance[1]));
}

TEST(CpuAttentionTest, BaselineIsTheSameLessTheStatistics) {
  for (AttentionVariant variant : {AttentionVariant::kVanilla, AttentionVariant::kSink}) {
    Buffers<float> full(DType::kF32);
    Buffers<float> baseline(DType::kF32);
    const auto backend = MakeCpuBackend(2);
    full.Forward(backend.get(), ConfigOf(variant));
    full.Backward(backend.get(), ConfigOf(variant));
    const auto without = MakeCpuBackendWithoutImportance(2);
    baseline.Forward(without.get(), ConfigOf(variant));
    EXPECT_EQ(baseline.gate, std::vector<float>(2 * kRows));
    EXPECT_EQ(baseline.importance, std::vector<double>(2));
    // The baseline ignores the importance gradient.
    baseline.g = {100, 100};
    baseline.Backward(without.get(), ConfigOf(variant));
    for (size_t i = 0; i < full.out.size(); ++i) {
      ASSERT_NEAR(full.out[i], baseline.out[i], 1e-6);
      ASSERT_NEAR(full.d_q[i], baseline.d_q[i], 1e-5);
      ASSERT_NEAR(full.d_k[i], baseline.d_k[i], 1e-4);
    }
    for (size_t h = 0; h < 2; ++h) ASSERT_NEAR(full.d_sinks[h], baseline.d_sinks[h], 1e-3);
  }
}

}  // namespace
}  // namespace sinkforge::kernels
