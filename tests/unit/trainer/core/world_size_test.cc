// Data parallel training: a step does not depend on the number of ranks beyond rounding, the
// head-balance loss included; the same ranks give the same bits; every rank ends with the same
// parameters; a number that is not finite on one rank stops all of them at the same step.
#include <limits>

#include "gmock/gmock.h"
#include "tests/unit/trainer/core/model_probe.h"
#include "tests/unit/trainer/core/test_support.h"

namespace sinkforge::trainer {
namespace {

using kernels::BalanceLoss;
using kernels::StatusCode;

struct StepResult {
  StepReport report;
  std::vector<std::vector<double>> gradients;
  std::vector<std::vector<double>> parameters;
  double validation_loss = 0;
};

class WorldSizeTest : public ::testing::Test {
 protected:
  // Rank 0's result of one step from `start`, which all ranks share.
  std::vector<StepResult> OneStep(const TrainingConfig& config, const Snapshot& start, int ranks) {
    std::vector<StepResult> results(static_cast<size_t>(ranks));
    RunRanks(ranks, [&](int rank, std::unique_ptr<Collective> collective) {
      RigOptions options;
      options.train = &train_;
      options.validation = &validation_;
      options.collective = std::move(collective);
      Rig rig = MakeRig(config, std::move(options));
      ASSERT_TRUE(rig.trainer->Restore(start).ok());
      StepResult& result = results[static_cast<size_t>(rank)];
      // Rank 0 alone asks for the dump, which needs all ranks' gradients.
      StepDump dump;
      ASSERT_TRUE(rig.trainer->Step(&result.report, rank == 0 ? &dump : nullptr).ok());
      const auto evaluation = rig.trainer->Evaluate();
      ASSERT_TRUE(evaluation.ok());
      EXPECT_EQ(evaluation.value().tokens, 149);
      result.validation_loss = evaluation.value().loss;
      for (const NamedTensor& named : rig.trainer->gradients()) {
        result.gradients.push_back(ToDoubles(rig.backend.get(), named.tensor));
      }
      for (const NamedTensor& named : rig.trainer->parameters()) {
        result.parameters.push_back(ToDoubles(rig.backend.get(), named.tensor));
      }
    });
    return results;
  }

  Snapshot Start(const TrainingConfig& config) {
    RigOptions options;
    options.train = &train_;
    Rig rig = MakeRig(config, std::move(options));
    StepReport report;
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(rig.trainer->Step(&report, nullptr).ok());
    return rig.trainer->TakeSnapshot();
  }

  static TrainingConfig Job(const ModelConfig& model, BalanceLoss loss) {
    TrainingConfig config = SmallJob();
    config.model = model;
    config.head_balance = {loss, 1, loss == BalanceLoss::kCv ? 1 : 0};
    config.micro_batch_rows = 6;  // 6; 3 + 3; 2 + 2 + 2; 2 + 2 + 1 + 1
    config.micro_steps = 2;
    return config;
  }

  MemoryDataset train_{SyntheticTokens(2000, 13, 1), 8};
  MemoryDataset validation_{SyntheticTokens(150, 13, 2), 8};
};

TEST_F(WorldSizeTest, OneStepAgreesForEveryNumberOfRanks) {
  double worst_loss = 0;
  double worst_gradient = 0;
  for (const ModelConfig& model : AllModelConfigs(SmallJob().model)) {
    for (const BalanceLoss loss : {BalanceLoss::kNone, BalanceLoss::kCv, BalanceLoss::kSwitch}) {
      const TrainingConfig config = Job(model, loss);
      const Snapshot start = Start(config);
      const StepResult one = OneStep(config, start, 1)[0];
      for (const int ranks : {2, 3, 4}) {
        SCOPED_TRACE(ModelName(model) + ", ranks " + std::to_string(ranks));
        const std::vector<StepResult> all = OneStep(config, start, ranks);
        for (const StepResult& result : all) {
          worst_loss = std::max({worst_loss, std::abs(result.report.loss - one.report.loss),
                                 std::abs(result.report.aux_loss - one.report.aux_loss),
                                 std::abs(result.validation_loss - one.validation_loss)});
          EXPECT_NEAR(result.report.imbalance, one.report.imbalance, 1e-6);
          // Ranks hold the same bits.
          EXPECT_EQ(result.report.loss, all[0].report.loss);
          EXPECT_EQ(result.report.gradient_norm, all[0].report.gradient_norm);
          EXPECT_EQ(result.report.importance, all[0].report.importance);
          EXPECT_EQ(result.validation_loss, all[0].validation_loss);
          EXPECT_EQ(result.parameters, all[0].parameters);
        }
        for (size_t i = 0; i < one.gradients.size(); ++i) {
          const double distance = RelativeDistance(all[0].gradients[i], one.gradients[i]);
          worst_gradient = std::max(worst_gradient, distance);
          EXPECT_LE(distance, 1e-5) << "tensor " << i;
        }
      }
    }
  }
  EXPECT_LE(worst_loss, 1e-6);
  std::printf("worst difference of a loss %.1e, of a gradient (norm-wise) %.1e\n", worst_loss,
              worst_gradient);
}

TEST_F(WorldSizeTest, TheSameRanksGiveTheSameBits) {
  const TrainingConfig config = Job(SmallJob().model, BalanceLoss::kCv);
  const Snapshot start = Start(config);
  for (const int ranks : {2, 3}) {
    const std::vector<StepResult> first = OneStep(config, start, ranks);
    const std::vector<StepResult> second = OneStep(config, start, ranks);
    for (size_t rank = 0; rank < first.size(); ++rank) {
      EXPECT_EQ(first[rank].parameters, second[rank].parameters);
      EXPECT_EQ(first[rank].report.loss, second[rank].report.loss);
    }
  }
}

// Twenty steps, and a whole job against the spread of three seeds.
TEST_F(WorldSizeTest, RunsAgreeForEveryNumberOfRanks) {
  TrainingConfig config = Job(SmallJob().model, BalanceLoss::kCv);
  config.head_balance.coefficient = 1e-2;
  const auto run = [&](int ranks, uint64_t seed) {
    config.seed = seed;
    std::vector<StepReport> reports;
    RunRanks(ranks, [&](int rank, std::unique_ptr<Collective> collective) {
      RigOptions options;
      options.train = &train_;
      options.collective = std::move(collective);
      Rig rig = MakeRig(config, std::move(options));
      StepReport report;
      for (int64_t step = 0; step < config.steps; ++step) {
        ASSERT_TRUE(rig.trainer->Step(&report, nullptr).ok());
        if (rank == 0) reports.push_back(report);
      }
    });
    return reports;
  };
  const auto mean_of_last = [](const std::vector<StepReport>& reports) {
    double sum = 0;
    for (size_t i = reports.size() - 10; i < reports.size(); ++i) sum += reports[i].loss;
    return sum / 10;
  };
  const std::vector<StepReport> one = run(1, 7);
  double low = mean_of_last(one);
  double high = low;
  for (const uint64_t seed : {8, 9}) {
    const double other = mean_of_last(run(1, seed));
    low = std::min(low, other);
    high = std::max(high, other);
  }
  double worst_loss = 0;
  double worst_imbalance = 0;
  for (const int ranks : {2, 3, 4}) {
    const std::vector<StepReport> several = run(ranks, 7);
    for (size_t step = 0; step < 20; ++step) {
      worst_loss = std::max(worst_loss, std::abs(several[step].loss - one[step].loss));
      worst_imbalance =
          std::max(worst_imbalance, std::abs(several[step].imbalance - one[step].imbalance));
    }
    EXPECT_LE(std::abs(mean_of_last(several) - mean_of_last(one)), high - low);
  }
  EXPECT_LE(worst_loss, 1e-5);
  EXPECT_LE(worst_imbalance, 1e-4);
  std::printf("20 steps: worst difference of the loss %.1e, of the imbalance %.1e\n", worst_loss,
              worst_imbalance);
}

// The optimizer's state of `from` ranks, put together for `to` of them.
TEST_F(WorldSizeTest, ACheckpointGoesOnWithAnyNumberOfRanks) {
  const TrainingConfig config = Job(SmallJob().model, BalanceLoss::kCv);
  const Snapshot start = Start(config);
  const StepResult expected = OneStep(config, start, 1)[0];
  for (const int from : {2, 4}) {
    std::vector<Snapshot> parts(static_cast<size_t>(from));
    RunRanks(from, [&](int rank, std::unique_ptr<Collective> collective) {
      RigOptions options;
      options.train = &train_;
      options.collective = std::move(collective);
      Rig rig = MakeRig(config, std::move(options));
      ASSERT_TRUE(rig.trainer->Restore(start).ok());
      parts[static_cast<size_t>(rank)] = rig.trainer->TakeSnapshot();
    });
    Snapshot joined = parts[0];
    for (size_t i = 1; i < parts.size(); ++i) {
      joined.tensors.insert(joined.tensors.end(), parts[i].tensors.begin(), parts[i].tensors.end());
    }
    for (const int to : {1, 3}) {
      const std::vector<StepResult> results = OneStep(config, joined, to);
      EXPECT_NEAR(results[0].report.loss, expected.report.loss, 1e-6);
      for (size_t i = 0; i < expected.parameters.size(); ++i) {
        EXPECT_LE(RelativeDistance(results[0].parameters[i], expected.parameters[i]), 1e-4);
        if (to == 1) {
          EXPECT_EQ(results[0].parameters[i], expected.parameters[i]);
        }
      }
    }
  }
}

TEST_F(WorldSizeTest, ARankThatIsNotFiniteStopsAllAtTheSameStep) {
  RunRanks(3, [&](int rank, std::unique_ptr<Collective> collective) {
    RigOptions options;
    options.train = &train_;
    options.collective = std::move(collective);
    Rig rig = MakeRig(SmallJob(), std::move(options));
    StepReport report;
    ASSERT_TRUE(rig.trainer->Step(&report, nullptr).ok());
    if (rank == 2) {
      const NamedTensor lm_head = rig.trainer->parameters().back();
      std::vector<double> values = ToDoubles(rig.backend.get(), lm_head.tensor);
      values[0] = std::numeric_limits<double>::quiet_NaN();
      FromDoubles(rig.backend.get(), values, lm_head.tensor);
    }
    const Snapshot before = rig.trainer->TakeSnapshot();
    const kernels::Status status = rig.trainer->Step(&report, nullptr);
    EXPECT_EQ(status.code(), StatusCode::kNonFinite);
    EXPECT_THAT(status.message(), ::testing::HasSubstr("step 2"));
    EXPECT_TRUE(SameBytes(rig.trainer->TakeSnapshot(), before));
  });
}

TEST_F(WorldSizeTest, ALostRankIsReportedAndChangesNothing) {
  RunRanks(2, [&](int rank, std::unique_ptr<Collective> collective) {
    RigOptions options;
    options.train = &train_;
    options.collective = std::move(collective);
    Rig rig = MakeRig(SmallJob(), std::move(options));
    StepReport report;
    ASSERT_TRUE(rig.trainer->Step(&report, nullptr).ok());
    if (rank == 1) return;  // Its collective goes with it.
    const Snapshot before = rig.trainer->TakeSnapshot();
    EXPECT_EQ(rig.trainer->Step(&report, nullptr).code(), StatusCode::kUnavailable);
    EXPECT_TRUE(SameBytes(rig.trainer->TakeSnapshot(), before));
  });
}

}  // namespace
}  // namespace sinkforge::trainer
