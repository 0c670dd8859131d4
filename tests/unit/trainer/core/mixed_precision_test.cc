// Training with bfloat16 activations beside float32 parameters, on the readable backend: the curve
// stays by float32's, a resumed run has the same bits, and the working copies follow every change.
#include "kernels/bfloat16.h"
#include "kernels/ref/ref_mixed_backend.h"
#include "tests/unit/trainer/core/test_support.h"

namespace sinkforge::trainer {
namespace {

using kernels::DType;

TrainingConfig MixedJob() {
  TrainingConfig config = SmallJob();
  config.model.width = 32;
  config.model.mlp_width = 64;
  config.model.vocab_size = 50;
  config.sequence_length = 16;
  config.micro_batch_rows = 4;
  config.micro_steps = 2;
  return config;
}

struct MixedCase {
  const char* name;
  OptimizerKind optimizer;
  MlpKind mlp;
};

class MixedPrecisionTest : public ::testing::TestWithParam<MixedCase> {
 protected:
  MixedPrecisionTest() {
    config_.optimizer.kind = GetParam().optimizer;
    config_.model.mlp = GetParam().mlp;
  }
  Rig Make(std::unique_ptr<kernels::Backend> backend) {
    RigOptions options;
    options.backend = std::move(backend);
    options.train = &data_;
    return MakeRig(config_, std::move(options));
  }

  TrainingConfig config_ = MixedJob();
  MemoryDataset data_{SyntheticTokens(20000, 50, 1), 16};
};

TEST_P(MixedPrecisionTest, StaysByFloat32AndResumesBitForBit) {
  Rig exact = Make(kernels::MakeRefBackend(DType::kF32));
  Rig whole = Make(kernels::MakeRefMixedBackend());
  Rig first = Make(kernels::MakeRefMixedBackend());
  StepReport report;
  StepReport reference;
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(exact.trainer->Step(&reference, nullptr).ok());
    ASSERT_TRUE(whole.trainer->Step(&report, nullptr).ok());
    // Sums of rounding errors of 2^-9 over a few layers.
    EXPECT_NEAR(report.loss, reference.loss, 0.03 * reference.loss) << "step " << i + 1;
    if (i < 15) {
      ASSERT_TRUE(first.trainer->Step(&report, nullptr).ok());
    }
  }
  Rig second = Make(kernels::MakeRefMixedBackend());
  ASSERT_TRUE(second.trainer->Restore(first.trainer->TakeSnapshot()).ok());
  for (int i = 15; i < 30; ++i) ASSERT_TRUE(second.trainer->Step(&report, nullptr).ok());
  EXPECT_TRUE(SameBytes(second.trainer->TakeSnapshot(), whole.trainer->TakeSnapshot()));
}

INSTANTIATE_TEST_SUITE_P(
    Jobs, MixedPrecisionTest,
    ::testing::Values(MixedCase{"Muon", OptimizerKind::kMuon, MlpKind::kReluSquared},
                      MixedCase{"AdamW", OptimizerKind::kAdamW, MlpKind::kReluSquared},
                      MixedCase{"MuonSwiGlu", OptimizerKind::kMuon, MlpKind::kSwiGlu}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(BfloatTest, RoundsToNearestTiesToEven) {
  EXPECT_EQ(kernels::RoundToBfloat16(1.0F), 0x3F80);
  EXPECT_EQ(kernels::RoundToBfloat16(1.00390625F), 0x3F80);  // half way: the even one
  EXPECT_EQ(kernels::RoundToBfloat16(1.01171875F), 0x3F82);  // half way: the even one
  EXPECT_EQ(kernels::RoundToBfloat16(1.0039064F), 0x3F81);   // just above half way
  EXPECT_EQ(kernels::FromBfloat16(0xC000), -2.0F);
  EXPECT_TRUE(std::isnan(kernels::FromBfloat16(kernels::RoundToBfloat16(std::nanf("")))));
}

}  // namespace
}  // namespace sinkforge::trainer
