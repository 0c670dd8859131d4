// Training on the CPU backend: bit for bit the same when resumed, and independent of the number of
// ranks beyond rounding.
#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/trainer/core/test_support.h"

namespace sinkforge::trainer {
namespace {

TrainingConfig CpuJob() {
  TrainingConfig config = SmallJob();
  config.model.width = 64;
  config.model.mlp_width = 256;
  config.model.vocab_size = 50;
  config.sequence_length = 24;
  config.micro_batch_rows = 6;
  config.micro_steps = 2;
  return config;
}

class CpuTrainingTest : public ::testing::TestWithParam<OptimizerKind> {
 protected:
  Rig Make(const TrainingConfig& config, std::unique_ptr<Collective> collective = nullptr) {
    RigOptions options;
    options.backend = kernels::MakeCpuBackend(2);
    options.collective = std::move(collective);
    options.train = &data_;
    return MakeRig(config, std::move(options));
  }

  MemoryDataset data_{SyntheticTokens(20000, 50, 1), 24};
};

TEST_P(CpuTrainingTest, ResumesBitForBit) {
  TrainingConfig config = CpuJob();
  config.optimizer.kind = GetParam();
  Rig whole = Make(config);
  Rig first = Make(config);
  std::vector<double> losses;
  StepReport report;
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(whole.trainer->Step(&report, nullptr).ok());
    losses.push_back(report.loss);
  }
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(first.trainer->Step(&report, nullptr).ok());
  Rig second = Make(config);
  ASSERT_TRUE(second.trainer->Restore(first.trainer->TakeSnapshot()).ok());
  for (size_t i = 30; i < 60; ++i) {
    ASSERT_TRUE(second.trainer->Step(&report, nullptr).ok());
    EXPECT_EQ(report.loss, losses[i]);
  }
  EXPECT_TRUE(SameBytes(second.trainer->TakeSnapshot(), whole.trainer->TakeSnapshot()));
  EXPECT_LT(losses.back(), 0.9 * losses.front());
}

TEST_P(CpuTrainingTest, OneStepAgreesForEveryNumberOfRanks) {
  TrainingConfig config = CpuJob();
  config.optimizer.kind = GetParam();
  config.head_balance.coefficient = 1;
  Rig solo = Make(config);
  StepReport report;
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(solo.trainer->Step(&report, nullptr).ok());
  const Snapshot start = solo.trainer->TakeSnapshot();
  ASSERT_TRUE(solo.trainer->Step(&report, nullptr).ok());
  for (const int ranks : {2, 3, 4}) {
    RunRanks(ranks, [&](int, std::unique_ptr<Collective> collective) {
      Rig rig = Make(config, std::move(collective));
      ASSERT_TRUE(rig.trainer->Restore(start).ok());
      StepReport mine;
      StepDump dump;  // with which every rank gets the whole gradients
      ASSERT_TRUE(rig.trainer->Step(&mine, &dump).ok());
      EXPECT_NEAR(mine.loss, report.loss, 1e-6);
      EXPECT_NEAR(mine.aux_loss, report.aux_loss, 1e-6);
      const auto gradients = rig.trainer->gradients();
      const auto expected = solo.trainer->gradients();
      for (size_t i = 0; i < gradients.size(); ++i) {
        const auto values =
            std::vector<double>(gradients[i].tensor.as<float>(),
                                gradients[i].tensor.as<float>() + gradients[i].tensor.elements());
        const auto reference =
            std::vector<double>(expected[i].tensor.as<float>(),
                                expected[i].tensor.as<float>() + expected[i].tensor.elements());
        EXPECT_LE(RelativeDistance(values, reference), 1e-5) << gradients[i].name;
      }
    });
  }
}

// 1 x 8, 2 x 4 and 4 x 2 (ranks x rows) over twenty steps.
TEST_P(CpuTrainingTest, TwentyStepsAgreeForEveryNumberOfRanks) {
  TrainingConfig config = CpuJob();
  config.optimizer.kind = GetParam();
  config.micro_batch_rows = 8;
  constexpr size_t kSteps = 20;
  std::vector<StepReport> expected(kSteps);
  Rig solo = Make(config);
  for (StepReport& report : expected) ASSERT_TRUE(solo.trainer->Step(&report, nullptr).ok());
  for (const int ranks : {2, 4}) {
    RunRanks(ranks, [&](int, std::unique_ptr<Collective> collective) {
      Rig rig = Make(config, std::move(collective));
      StepReport mine;
      for (const StepReport& report : expected) {
        ASSERT_TRUE(rig.trainer->Step(&mine, nullptr).ok());
        EXPECT_NEAR(mine.loss, report.loss, 1e-5) << "step " << report.step;
        EXPECT_NEAR(mine.imbalance, report.imbalance, 1e-4) << "step " << report.step;
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, CpuTrainingTest,
                         ::testing::Values(OptimizerKind::kMuon, OptimizerKind::kAdamW),
                         [](const auto& tested) {
                           return tested.param == OptimizerKind::kMuon ? "Muon" : "AdamW";
                         });

}  // namespace
}  // namespace sinkforge::trainer
