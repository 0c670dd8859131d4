// Trainer: it learns, resumes exactly, accumulates gradients, evaluates every token once, and
// leaves its state alone when numbers stop being finite.
#include "worker/trainer/core/trainer.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "tests/unit/trainer/core/test_support.h"

namespace sinkforge::trainer {
namespace {

using kernels::AttentionVariant;
using kernels::DType;
using kernels::StatusCode;
using ::testing::HasSubstr;

class TrainerTest : public ::testing::Test {
 protected:
  Rig Make(const TrainingConfig& config, std::unique_ptr<kernels::Backend> backend = nullptr) {
    RigOptions options;
    options.backend = std::move(backend);
    options.train = &train_;
    options.validation = &validation_;
    return MakeRig(config, std::move(options));
  }

  // Losses of `count` steps.
  static std::vector<double> Steps(Trainer& trainer, int64_t count) {
    std::vector<double> losses;
    StepReport report;
    for (int64_t i = 0; i < count; ++i) {
      const kernels::Status status = trainer.Step(&report, nullptr);
      EXPECT_TRUE(status.ok()) << status.message();
      losses.push_back(report.loss);
    }
    return losses;
  }

  MemoryDataset train_{SyntheticTokens(2000, 13, 1), 8};
  MemoryDataset validation_{SyntheticTokens(150, 13, 2), 8};
};

TEST_F(TrainerTest, LearnsASmallText) {
  for (const OptimizerKind kind : {OptimizerKind::kMuon, OptimizerKind::kAdamW}) {
    TrainingConfig config = SmallJob();
    config.optimizer.kind = kind;
    if (kind == OptimizerKind::kAdamW) {
      config.optimizer.matrix_lr = 0.01;
      config.optimizer.embedding_lr = 0.01;
      config.optimizer.unembedding_lr = 0.01;
      config.optimizer.scale_by_width = false;
    }
    config.steps = 200;
    Rig rig = Make(config);
    const std::vector<double> losses = Steps(*rig.trainer, config.steps);
    // lm_head starts at zero: every token has the same probability.
    EXPECT_NEAR(losses.front(), std::log(13.0), 1e-5);
    EXPECT_LT(losses.back(), 0.7 * losses.front());
    const auto evaluation = rig.trainer->Evaluate();
    ASSERT_TRUE(evaluation.ok());
    EXPECT_LT(evaluation.value().loss, 0.8 * losses.front());
  }
}

}  // namespace
}  // namespace sinkforge::trainer
