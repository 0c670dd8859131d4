// Names, counts and initial values of the parameters; the arena that holds them.
#include "worker/trainer/core/parameters.h"

#include <cmath>

#include "gmock/gmock.h"
#include "tests/unit/trainer/core/test_support.h"
#include "worker/trainer/core/random.h"

namespace sinkforge::trainer {
namespace {

using kernels::AttentionVariant;
using kernels::DType;
using ::testing::ElementsAre;

ModelConfig Nanochat(int64_t depth) {
  ModelConfig config;
  config.layers = depth;
  config.width = 64 * depth;
  config.heads = depth / 2;
  config.vocab_size = 65536;
  config.mlp_width = 4 * config.width;
  return config;
}

TEST(DescribeParametersTest, CountsNanochatsModels) {
  EXPECT_EQ(CountParameters(Nanochat(20)), 560988160);
  EXPECT_EQ(CountParameters(Nanochat(26)), 1081999360);
  EXPECT_EQ(CountParameters(Nanochat(32)), 1879048192);
}

TEST(DescribeParametersTest, NamesEveryTensorOfALayer) {
  ModelConfig config = SmallJob().model;
  config.layers = 1;
  const auto names = [&] {
    std::vector<std::string> result;
    for (const ParameterSpec& spec : DescribeParameters(config)) {
      result.push_back(spec.name + " " + std::to_string(spec.rows) + "x" +
                       std::to_string(spec.columns));
    }
    return result;
  };
  EXPECT_THAT(
      names(),
      ElementsAre("transformer.wte.weight 13x16", "transformer.h.0.attn.c_q.weight 16x16",
                  "transformer.h.0.attn.c_k.weight 16x16", "transformer.h.0.attn.c_v.weight 16x16",
                  "transformer.h.0.attn.c_gate.weight 4x16",
                  "transformer.h.0.attn.c_proj.weight 16x16",
                  "transformer.h.0.mlp.c_fc.weight 24x16",
                  "transformer.h.0.mlp.c_proj.weight 16x24", "lm_head.weight 13x16"));
  config.mlp = MlpKind::kSwiGlu;
  EXPECT_EQ(names()[6], "transformer.h.0.mlp.c_gate.weight 24x16");
  EXPECT_EQ(names()[7], "transformer.h.0.mlp.c_up.weight 24x16");
  EXPECT_EQ(names()[8], "transformer.h.0.mlp.c_proj.weight 16x24");
  config.gate = kernels::GateGranularity::kElement;
  EXPECT_EQ(names()[4], "transformer.h.0.attn.c_gate.weight 16x16");
  config.attention = AttentionVariant::kSink;
  EXPECT_EQ(names()[4], "transformer.h.0.attn.sinks 4x0");
  config.attention = AttentionVariant::kVanilla;
  EXPECT_EQ(names()[4], "transformer.h.0.attn.c_proj.weight 16x16");
}

std::vector<double> ValuesOf(const ModelConfig& config, const std::string& name, DType dtype,
                             uint64_t seed) {
  const auto backend = kernels::MakeRefBackend(dtype);
  auto set = ParameterSet::Create(config, backend.get());
  SINKFORGE_CHECK(set.ok());
  set.value()->Initialize(seed);
  for (const Parameter& parameter : set.value()->all()) {
    if (parameter.spec.name == name) return ToDoubles(backend.get(), parameter.weight.value);
  }
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

double Deviation(const std::vector<double>& values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares / static_cast<double>(values.size()));
}

TEST(InitializeTest, FollowsNanochatsRule) {
  ModelConfig config = SmallJob().model;
  config.width = 128;
  config.mlp_width = 512;
  config.vocab_size = 200;
  const auto deviation = [&](const std::string& name) {
    return Deviation(ValuesOf(config, name, DType::kF32, 1));
  };
  EXPECT_NEAR(deviation("transformer.wte.weight"), 1.0, 0.02);
  EXPECT_NEAR(deviation("transformer.h.1.attn.c_k.weight"), 1 / std::sqrt(128.0), 0.002);
  EXPECT_NEAR(deviation("transformer.h.1.mlp.c_fc.weight"), 1 / std::sqrt(128.0), 0.001);
  EXPECT_NEAR(deviation("transformer.h.0.attn.c_gate.weight"), config.gate_init, 0.03);
  EXPECT_EQ(deviation("transformer.h.0.attn.c_proj.weight"), 0);
  EXPECT_EQ(deviation("transformer.h.0.mlp.c_proj.weight"), 0);
  EXPECT_EQ(deviation("lm_head.weight"), 0);
}

TEST(InitializeTest, SpreadsTheSinksEvenly) {
  ModelConfig config = SmallJob().model;
  config.attention = AttentionVariant::kSink;
  config.sink_init_low = 0;
  config.sink_init_high = 6;
  EXPECT_THAT(ValuesOf(config, "transformer.h.1.attn.sinks", DType::kF32, 1),
              ElementsAre(0, 2, 4, 6));
  config.heads = 1;
  EXPECT_THAT(ValuesOf(config, "transformer.h.1.attn.sinks", DType::kF32, 1), ElementsAre(0));
}

TEST(InitializeTest, StartsClosedGatesAtZero) {
  ModelConfig config = SmallJob().model;
  config.gate_init = 0;
  EXPECT_EQ(Deviation(ValuesOf(config, "transformer.h.0.attn.c_gate.weight", DType::kF32, 1)), 0);
}

TEST(InitializeTest, GivesBothTypesTheSameNumbersAndEverySeedItsOwn) {
  const ModelConfig config = SmallJob().model;
  const std::string name = "transformer.h.0.attn.c_q.weight";
  EXPECT_EQ(ValuesOf(config, name, DType::kF32, 5), ValuesOf(config, name, DType::kF64, 5));
  EXPECT_NE(ValuesOf(config, name, DType::kF32, 5), ValuesOf(config, name, DType::kF32, 6));
  EXPECT_NE(ValuesOf(config, name, DType::kF32, 5),
            ValuesOf(config, "transformer.h.1.attn.c_q.weight", DType::kF32, 5));
}

TEST(InitializeTest, GivesALargeTensorTheNumbersOfItsStream) {
  ModelConfig config = SmallJob().model;
  config.width = 1022;  // with the vocabulary: no multiple of any number of threads
  config.vocab_size = 1031;
  const std::string name = "transformer.wte.weight";
  const std::vector<double> values = ValuesOf(config, name, DType::kF32, 5);
  const RandomStream stream(5, name);
  ASSERT_EQ(values.size(), 1022U * 1031U);
  for (size_t i = 0; i < values.size(); ++i) {
    const double expected = stream.NormalPair(i / 2)[i % 2];
    ASSERT_EQ(values[i], static_cast<double>(static_cast<float>(expected))) << i;
  }
}

TEST(ArenaTest, AlignsItsTensorsAndListsThem) {
  const auto backend = kernels::MakeRefBackend(DType::kF32);
  Arena arena("test", backend.get());
  arena.Add("a", DType::kF32, {3});
  arena.Add("b", DType::kF64, {5, 2});
  ASSERT_TRUE(arena.Allocate().ok());
  EXPECT_EQ(arena.table()[1].name, "b");
  EXPECT_EQ(arena.table()[1].offset_bytes, 64);
  EXPECT_EQ(arena.bytes(), 192);
  EXPECT_EQ(arena.at(1).as<char>() - arena.at(0).as<char>(), 64);
  EXPECT_EQ(arena.Flat(DType::kF32).elements(), 48);
}

}  // namespace
}  // namespace sinkforge::trainer
