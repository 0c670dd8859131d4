// Products of operands rounded to bfloat16: the rounding itself, the library's products (where this
// processor has them) and the emulated ones against float64 sums of the rounded operands, and a
// model trained with them. The emulation runs everywhere.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/matrix_product.h"
#include "tests/unit/trainer/core/model_probe.h"

namespace sinkforge::trainer {
namespace {

using kernels::MatrixProduct;
using kernels::ProductPrecision;
using kernels::Transpose;

uint32_t BitsOf(float x) {
  uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

float FromBits(uint32_t bits) {
  float x = 0;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// The definition: of the two neighbours with 8 significant bits the nearer one, or the even one.
float NearestBfloat16(float x) {
  if (std::isnan(x) || std::isinf(x)) return x;
  const float low = FromBits(BitsOf(x) & 0xffff0000U);
  const float high = FromBits((BitsOf(x) & 0xffff0000U) + 0x10000U);
  // Beyond the largest number the next is an infinity, which counts as 2^128.
  const double top = std::isinf(high) ? std::copysign(std::ldexp(1.0, 128), x) : double{high};
  const double to_low = std::abs(double{x} - double{low});
  const double to_high = std::abs(top - double{x});
  if (to_low != to_high) return to_low < to_high ? low : high;
  return (BitsOf(low) & 0x10000U) == 0 ? low : high;
}

std::vector<kernels::SimdLevel> Levels() {
  std::vector<kernels::SimdLevel> levels;
  for (const kernels::SimdLevel level :
       {kernels::SimdLevel::kBaseline, kernels::SimdLevel::kAvx2, kernels::SimdLevel::kAvx512}) {
    if (kernels::FindSimdKernels(level) != nullptr) levels.push_back(level);
  }
  return levels;
}

TEST(Bfloat16Test, RoundsToNearestAndTiesToEven) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> x = {0.0F,    -0.0F,   1.0F,     1.00390625F, 1.01171875F, -1.0039F,  1e-40F,
                          -1e-45F, 3.4e38F, -3.4e38F, kInfinity,   -kInfinity,  3.3895e38F};
  const RandomStream stream(3, "bfloat16 bits");
  for (uint64_t i = 0; i < 2000; ++i) {
    const float value = FromBits(static_cast<uint32_t>(stream.Bits(i)));
    if (!std::isnan(value)) x.push_back(value);
    x.push_back(FromBits((BitsOf(value) & 0xffff0000U) | 0x8000U));  // a tie
    if (std::isnan(x.back())) x.pop_back();
  }
  const auto count = static_cast<int64_t>(x.size());
  for (const kernels::SimdLevel level : Levels()) {
    std::vector<float> rounded(x.size());
    std::vector<uint16_t> halves(x.size());
    kernels::FindSimdKernels(level)->round_to_bfloat16(x.data(), count, rounded.data());
    kernels::FindSimdKernels(level)->to_bfloat16(x.data(), count, halves.data());
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(BitsOf(rounded[i]), BitsOf(NearestBfloat16(x[i]))) << x[i];
      EXPECT_EQ(uint32_t{halves[i]} << 16, BitsOf(rounded[i])) << x[i];
    }
    float nan = FromBits(0x7fffffffU);
    uint16_t half = 0;
    kernels::FindSimdKernels(level)->to_bfloat16(&nan, 1, &half);
    EXPECT_TRUE(std::isnan(FromBits(uint32_t{half} << 16)));
  }
}

std::vector<ProductPrecision> Precisions() {
  if (kernels::ProcessorMultipliesBfloat16()) {
    return {ProductPrecision::kBfloat16, ProductPrecision::kBfloat16Emulated};
  }
  return {ProductPrecision::kBfloat16Emulated};
}

std::vector<float> RandomValues(int64_t count, const std::string& name) {
  const RandomStream stream(5, name);
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(stream.NormalPair(i)[0]);
  }
  return values;
}

struct Shape {
  int64_t m, n, k;
};

// Each element within float32's error of its sum: k roundings of numbers up to the sum of the
// absolute products.
void ExpectProduct(const Shape& shape, Transpose ta, Transpose tb, float alpha, float beta,
                   kernels::MatrixProducts* products) {
  const auto [m, n, k] = shape;
  const std::vector<float> a = RandomValues(m * k, "a");
  const std::vector<float> b = RandomValues(k * n, "b");
  const std::vector<float> start = RandomValues(m * n, "c");
  std::vector<float> c = start;
  MatrixProduct product;
  product.transpose_a = ta;
  product.transpose_b = tb;
  product.m = m;
  product.n = n;
  product.k = k;
  product.alpha = alpha;
  product.beta = beta;
  product.a = a.data();
  product.lda = ta == Transpose::kYes ? m : k;
  product.b = b.data();
  product.ldb = tb == Transpose::kYes ? k : n;
  product.c = c.data();
  product.ldc = n;
  products->Run(product);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      double size = 0;
      for (int64_t l = 0; l < k; ++l) {
        const float x = a[static_cast<size_t>(ta == Transpose::kYes ? l * m + i : i * k + l)];
        const float y = b[static_cast<size_t>(tb == Transpose::kYes ? j * k + l : l * n + j)];
        const double term = double{NearestBfloat16(x)} * double{NearestBfloat16(y)};
        sum += term;
        size += std::abs(term);
      }
      const auto at = static_cast<size_t>(i * n + j);
      const double expected = double{alpha} * sum + double{beta} * double{start[at]};
      const double bound = 1.2e-7 * static_cast<double>(k + 3) * (std::abs(double{alpha}) * size) +
                           2.4e-7 * std::abs(double{beta} * double{start[at]});
      ASSERT_NEAR(double{c[at]}, expected, bound)
          << m << " x " << n << " x " << k << " at " << i << ", " << j;
    }
  }
}

TEST(Bfloat16Test, ProductsAreThoseOfTheRoundedOperands) {
  kernels::ThreadPool pool(3);
  for (const ProductPrecision precision : Precisions()) {
    kernels::MatrixProducts products(precision, kernels::BestSimdKernels(), &pool);
    // The last three are several blocks: of rows, of columns, and of terms.
    for (const Shape& shape :
         {Shape{1, 1, 1}, Shape{5, 7, 3}, Shape{130, 40, 33}, Shape{33, 129, 70},
          Shape{96, 64, 200}, Shape{1700, 9, 33}, Shape{9, 1700, 40}, Shape{40, 24, 1300}}) {
      for (const Transpose ta : {Transpose::kNo, Transpose::kYes}) {
        for (const Transpose tb : {Transpose::kNo, Transpose::kYes}) {
          ExpectProduct(shape, ta, tb, 1.0F, 0.0F, &products);
          ExpectProduct(shape, ta, tb, 1.0F, 1.0F, &products);
          ExpectProduct(shape, ta, tb, 2.0315F, 0.0F, &products);
        }
      }
    }
  }
}

TEST(Bfloat16Test, SymmetricProductsAreSymmetric) {
  std::vector<ProductPrecision> precisions = Precisions();
  precisions.push_back(ProductPrecision::kFloat32);
  constexpr int64_t kRows = 300;
  constexpr int64_t kInner = 70;
  const std::vector<float> a = RandomValues(kRows * kInner, "symmetric");
  for (const ProductPrecision precision : precisions) {
    kernels::ThreadPool pool(2);
    kernels::MatrixProducts products(precision, kernels::BestSimdKernels(), &pool);
    std::vector<float> whole(kRows * kRows);
    std::vector<float> half(kRows * kRows, 77.0F);
    MatrixProduct product;
    product.transpose_b = Transpose::kYes;
    product.m = product.n = product.ldc = kRows;
    product.k = product.lda = product.ldb = kInner;
    product.a = product.b = a.data();
    product.c = whole.data();
    products.Run(product);
    product.c = half.data();
    products.RunSymmetric(product);
    for (size_t i = 0; i < kRows; ++i) {
      for (size_t j = 0; j < kRows; ++j) {
        EXPECT_EQ(half[i * kRows + j], half[j * kRows + i]);
        EXPECT_NEAR(half[i * kRows + j], whole[i * kRows + j], 1e-4);
      }
    }
  }
}

std::unique_ptr<kernels::Backend> BackendOf(ProductPrecision precision) {
  kernels::CpuBackendOptions options;
  options.threads = 2;
  options.products = precision;
  return kernels::MakeCpuBackend(options);
}

// bfloat16 keeps 8 bits: a relative error of 2^-9 an operand, which the norms of a gradient's
// tensor see a few times over.
TEST(Bfloat16Test, GradientsAreThoseOfTheModelToBfloat16sAccuracy) {
  ModelConfig config;
  config.layers = 3;
  config.width = 96;
  config.heads = 6;
  config.vocab_size = 101;
  config.mlp_width = 200;
  config.attention = kernels::AttentionVariant::kGated;
  const auto exact = kernels::MakeRefBackend(kernels::DType::kF64);
  const Objective objective{1.0, {kernels::BalanceLoss::kCv, 1, 0}};
  ModelProbe oracle(config, {2, 37}, objective, exact.get());
  oracle.ComputeGradients();
  for (const ProductPrecision precision : Precisions()) {
    const auto backend = BackendOf(precision);
    ModelProbe tested(config, {2, 37}, objective, backend.get());
    tested.ComputeGradients();
    EXPECT_NEAR(tested.loss_sum(), oracle.loss_sum(), 0.01 * oracle.loss_sum());
    for (size_t i = 0; i < oracle.parameters().size(); ++i) {
      EXPECT_LE(RelativeDistance(tested.Gradient(i), oracle.Gradient(i)), 0.05)
          << oracle.parameters()[i].spec.name;
    }
  }
}

TEST(Bfloat16Test, MasterWeightsAndStateStayFloat32AndTheModelLearns) {
  const MemoryDataset data(SyntheticTokens(20000, 50, 1), 24);
  for (const ProductPrecision precision : Precisions()) {
    for (const OptimizerKind kind : {OptimizerKind::kMuon, OptimizerKind::kAdamW}) {
      TrainingConfig config = SmallJob();
      config.model.width = 64;
      config.model.mlp_width = 256;
      config.model.vocab_size = 50;
      config.sequence_length = 24;
      config.micro_batch_rows = 6;
      config.optimizer.kind = kind;
      RigOptions options;
      options.backend = BackendOf(precision);
      options.train = &data;
      const Rig rig = MakeRig(config, std::move(options));
      StepReport report;
      std::vector<double> losses;
      for (int i = 0; i < 40; ++i) {
        ASSERT_TRUE(rig.trainer->Step(&report, nullptr).ok());
        losses.push_back(report.loss);
      }
      EXPECT_LT(losses.back(), 0.9 * losses.front());
      // More digits than bfloat16 has: no weight was rounded when it was stored.
      const std::vector<double> head =
          ToDoubles(rig.backend.get(), rig.trainer->parameters().back().tensor);
      int64_t fine = 0;
      for (const double value : head) {
        const float weight = static_cast<float>(value);
        if (NearestBfloat16(weight) != weight) ++fine;
      }
      EXPECT_GT(fine, static_cast<int64_t>(head.size()) / 2);
    }
  }
}

TEST(Bfloat16Test, AResumedRunHasTheBitsOfOneThatWentOn) {
  const MemoryDataset data(SyntheticTokens(20000, 13, 1), 24);
  for (const ProductPrecision precision : Precisions()) {
    TrainingConfig config = SmallJob();
    config.model.width = 64;
    config.sequence_length = 24;
    const auto make = [&] {
      RigOptions options;
      options.backend = BackendOf(precision);
      options.train = &data;
      return MakeRig(config, std::move(options));
    };
    StepReport report;
    const Rig whole = make();
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(whole.trainer->Step(&report, nullptr).ok());
    const Snapshot stopped = whole.trainer->TakeSnapshot();
    const Rig resumed = make();
    ASSERT_TRUE(resumed.trainer->Restore(stopped).ok());
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(whole.trainer->Step(&report, nullptr).ok());
      ASSERT_TRUE(resumed.trainer->Step(&report, nullptr).ok());
    }
    EXPECT_TRUE(SameBytes(resumed.trainer->TakeSnapshot(), whole.trainer->TakeSnapshot()));
  }
}

}  // namespace
}  // namespace sinkforge::trainer
