// Decoding one position after another gives the full forward's logits, for every variant.
#include "worker/trainer/core/decoder.h"

#include <gtest/gtest.h>

#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/trainer/core/model_probe.h"

namespace sinkforge::trainer {
namespace {

using kernels::AttentionVariant;
using kernels::DType;
using kernels::GateGranularity;
using kernels::HeadNorm;

struct Variant {
  const char* name;
  AttentionVariant attention;
  GateGranularity gate;
  HeadNorm head_norm;
  double softcap;
  MlpKind mlp = MlpKind::kReluSquared;
};

class DecoderTest : public testing::TestWithParam<Variant> {
 protected:
  static constexpr int64_t kSequence = 19;

  static ModelConfig Config() {
    ModelConfig config = SmallJob().model;
    config.attention = GetParam().attention;
    config.gate = GetParam().gate;
    config.head_norm = GetParam().head_norm;
    config.logit_softcap = GetParam().softcap;
    config.mlp = GetParam().mlp;
    return config;
  }

  // Softcapped logits of every position from the full forward; [T, V].
  static std::vector<double> ForwardLogits(Model& model, kernels::Backend* backend,
                                           const std::vector<int32_t>& tokens) {
    model.LoadBatch(1, tokens.data(), tokens.data());
    model.Forward();
    kernels::Tensor x;
    for (const Arena::Allocation& part : model.activations().table()) {
      if (part.name == "x") x = part.tensor;
    }
    const std::vector<double> hidden = ToDoubles(backend, x);
    const std::vector<double> head = ToDoubles(backend, model.parameters().lm_head().value);
    const ModelConfig& config = model.config();
    std::vector<double> logits;
    for (int64_t t = 0; t < kSequence; ++t) {
      for (int64_t v = 0; v < config.vocab_size; ++v) {
        double logit = 0;
        for (int64_t c = 0; c < config.width; ++c) {
          logit += hidden[static_cast<size_t>(t * config.width + c)] *
                   head[static_cast<size_t>(v * config.width + c)];
        }
        const double cap = config.logit_softcap;
        logits.push_back(cap > 0 ? cap * std::tanh(logit / cap) : logit);
      }
    }
    return logits;
  }

  // Feeds `chunk` tokens at a time and compares the logits after each.
  static void Compare(kernels::Backend* backend, int64_t chunk, double tolerance) {
    const ModelConfig config = Config();
    ModelProbe probe(config, {1, kSequence}, {}, backend);
    const std::vector<int32_t> tokens =
        SyntheticTokens(kSequence, static_cast<int32_t>(config.vocab_size), 3);
    const std::vector<double> expected = ForwardLogits(probe.model(), backend, tokens);
    auto decoder = Decoder::Create(config, {kSequence, 4}, &probe.model().parameters(), backend);
    ASSERT_TRUE(decoder.ok()) << decoder.status().message();
    std::vector<double> logits(static_cast<size_t>(config.vocab_size));
    for (int64_t done = 0; done < kSequence;) {
      const int64_t count = std::min(chunk, kSequence - done);
      decoder.value()->Feed({tokens.data() + done, static_cast<size_t>(count)});
      done += count;
      ASSERT_EQ(decoder.value()->positions(), done);
      decoder.value()->ReadLogits(logits);
      const auto at = expected.begin() + (done - 1) * config.vocab_size;
      const std::vector<double> wanted(at, at + config.vocab_size);
      EXPECT_LT(RelativeDistance(logits, wanted), tolerance) << "after " << done << " tokens";
    }
  }
};

// Rounding of float64 over some thousand operations.
TEST_P(DecoderTest, EqualsTheForwardInFloat64) {
  const auto backend = kernels::MakeRefBackend(DType::kF64);
  Compare(backend.get(), 1, 1e-12);
}

// The prompt goes in by blocks, of which the plan takes four positions at once.
TEST_P(DecoderTest, TheSizeOfTheBlocksDoesNotMatter) {
  const auto backend = kernels::MakeRefBackend(DType::kF64);
  for (const int64_t chunk : {2, 7, 19}) Compare(backend.get(), chunk, 1e-12);
}

// 100 float32 roundings; a wrong position or a missing gate is off by 1e-2 and more.
TEST_P(DecoderTest, EqualsTheForwardOnTheCpu) {
  const auto backend = kernels::MakeCpuBackend(2);
  Compare(backend.get(), 1, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Variants, DecoderTest,
                         testing::Values(Variant{"vanilla", AttentionVariant::kVanilla,
                                                 GateGranularity::kHead, HeadNorm::kNone, 15},
                                         Variant{"vanilla_normed", AttentionVariant::kVanilla,
                                                 GateGranularity::kHead, HeadNorm::kRms, 0},
                                         Variant{"sink", AttentionVariant::kSink,
                                                 GateGranularity::kHead, HeadNorm::kNone, 15},
                                         Variant{"gated_by_head", AttentionVariant::kGated,
                                                 GateGranularity::kHead, HeadNorm::kNone, 15},
                                         Variant{"swiglu", AttentionVariant::kGated,
                                                 GateGranularity::kHead, HeadNorm::kNone, 15,
                                                 MlpKind::kSwiGlu},
                                         Variant{"gated_by_channel", AttentionVariant::kGated,
                                                 GateGranularity::kElement, HeadNorm::kNone, 15},
                                         Variant{"gated_normed", AttentionVariant::kGated,
                                                 GateGranularity::kElement, HeadNorm::kRms, 15}),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace sinkforge::trainer
