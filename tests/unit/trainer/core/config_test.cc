// What a job may not ask for, and that the message names it.
#include "worker/trainer/core/config.h"

#include <cmath>
#include <functional>
#include <limits>

#include "gmock/gmock.h"
#include "tests/unit/trainer/core/test_support.h"

namespace sinkforge::trainer {
namespace {

using ::testing::HasSubstr;

struct Refusal {
  const char* name;
  std::function<void(TrainingConfig&)> break_it;
  const char* message;
};

class ConfigRefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(ConfigRefusalTest, NamesTheKey) {
  TrainingConfig config = SmallJob();
  ASSERT_TRUE(ValidateTraining(config).ok()) << ValidateTraining(config).message();
  GetParam().break_it(config);
  const kernels::Status status = ValidateTraining(config);
  EXPECT_EQ(status.code(), kernels::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(GetParam().message));
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

INSTANTIATE_TEST_SUITE_P(
    All, ConfigRefusalTest,
    ::testing::Values(
        Refusal{"IndivisibleWidth", [](auto& c) { c.model.width = 18; },
                "model.width 18 is not divisible by model.heads 4"},
        Refusal{"OddHeads", [](auto& c) { c.model.width = 12; }, "heads of 3 channels"},
        Refusal{"SinkWithHeadNorm",
                [](auto& c) {
                  c.model.attention = kernels::AttentionVariant::kSink;
                  c.model.head_norm = kernels::HeadNorm::kRms;
                },
                "the norm would cancel"},
        Refusal{"NoLayers", [](auto& c) { c.model.layers = 0; }, "model.layers is 0"},
        Refusal{"NoHeads", [](auto& c) { c.model.heads = 0; }, "model.heads is 0"},
        Refusal{"HugeWidth", [](auto& c) { c.model.width = int64_t{1} << 40; }, "model.width"},
        Refusal{"NoVocabulary", [](auto& c) { c.model.vocab_size = 0; }, "model.vocab_size"},
        Refusal{"NegativeMlp", [](auto& c) { c.model.mlp_width = -1; }, "model.mlp_width"},
        Refusal{"NanRope", [](auto& c) { c.model.rope_base = kNan; }, "model.rope_base"},
        Refusal{"NegativeSoftcap", [](auto& c) { c.model.logit_softcap = -1; },
                "model.logit_softcap"},
        Refusal{"NegativeGateInit", [](auto& c) { c.model.gate_init = -0.1; }, "model.gate_init"},
        Refusal{"InfiniteSinkInit", [](auto& c) { c.model.sink_init_high = INFINITY; },
                "model.sink_init"},
        Refusal{"TooManySharedHeads", [](auto& c) { c.head_balance.shared_heads = 3; },
                "head_balance.shared_heads is 3"},
        Refusal{"SharedHeadsOfSwitch",
                [](auto& c) {
                  c.head_balance = {kernels::BalanceLoss::kSwitch, 1, 1};
                },
                "belongs to head_balance.loss cv"},
        Refusal{"NanCoefficient", [](auto& c) { c.head_balance.coefficient = kNan; },
                "head_balance.coefficient"},
        Refusal{"NegativeRate", [](auto& c) { c.optimizer.matrix_lr = -1; }, "optimizer.matrix_lr"},
        Refusal{"BetaOne", [](auto& c) { c.optimizer.beta2 = 1; }, "optimizer.beta2"},
        Refusal{"LongWarmup", [](auto& c) { c.optimizer.warmup = 1.5; }, "optimizer.warmup"},
        Refusal{"NegativeClip", [](auto& c) { c.optimizer.gradient_clip = -1; },
                "train.gradient_clip"},
        Refusal{"NegativeSteps", [](auto& c) { c.steps = -1; }, "train.steps"},
        Refusal{"NoSequence", [](auto& c) { c.sequence_length = 0; }, "data.sequence_length"},
        Refusal{"NoRows", [](auto& c) { c.micro_batch_rows = 0; }, "train.micro_batch"},
        Refusal{"NoMicroSteps", [](auto& c) { c.micro_steps = 0; }, "train.batch_tokens"},
        Refusal{"NegativeEvaluation", [](auto& c) { c.evaluation_tokens = -1; },
                "evaluation.tokens"}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(TrainerCreateTest, RefusesMoreRanksThanRows) {
  TrainingConfig config = SmallJob();
  config.micro_batch_rows = 2;
  const MemoryDataset data(SyntheticTokens(100, 13, 1), 8);
  const auto backend = kernels::MakeRefBackend(kernels::DType::kF32);
  auto collectives = MakeInProcessCollectives(3);
  const auto trainer =
      Trainer::Create(config, {backend.get(), collectives[0].get(), &data, nullptr});
  ASSERT_FALSE(trainer.ok());
  EXPECT_EQ(trainer.status().code(), kernels::StatusCode::kInvalidArgument);
  EXPECT_THAT(trainer.status().message(), HasSubstr("resources.ranks"));
}

TEST(TrainerCreateTest, ReportsAModelThatFitsNowhere) {
  TrainingConfig config = SmallJob();
  config.model.width = int64_t{1} << 24;
  config.model.mlp_width = int64_t{1} << 24;
  config.model.layers = 4096;
  const MemoryDataset data(SyntheticTokens(100, 13, 1), 8);
  const auto backend = kernels::MakeRefBackend(kernels::DType::kF32);
  SoloCollective solo;
  const auto trainer = Trainer::Create(config, {backend.get(), &solo, &data, nullptr});
  ASSERT_FALSE(trainer.ok());
  EXPECT_EQ(trainer.status().code(), kernels::StatusCode::kResourceExhausted);
  EXPECT_THAT(trainer.status().message(), HasSubstr("parameters"));
}

}  // namespace
}  // namespace sinkforge::trainer
