// Recomputed activations have the bits of kept ones, for every variant and balance loss, and take
// the memory that the plan says.
#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/trainer/core/delegating_backend.h"
#include "tests/unit/trainer/core/model_probe.h"
#include "worker/trainer/core/memory_plan.h"

namespace sinkforge::trainer {
namespace {

using kernels::BalanceLoss;
using kernels::HeadBalanceConfig;

ModelConfig ThreeLayers() {
  ModelConfig config;
  config.layers = 3;
  config.width = 48;
  config.heads = 6;
  config.vocab_size = 50;
  config.mlp_width = 100;
  config.gate_init = 0.2;
  return config;
}

TrainingConfig JobOf(const Combination& combination) {
  TrainingConfig config = SmallJob();
  config.model = combination.model;
  config.head_balance = combination.balance;
  config.sequence_length = 37;
  config.micro_batch_rows = 3;
  config.micro_steps = 2;
  return config;
}

// Three steps and an evaluation.
struct Outcome {
  Snapshot snapshot;
  std::vector<StepReport> reports;
  double evaluation = 0;
};

Outcome Train(const TrainingConfig& config, std::unique_ptr<kernels::Backend> backend) {
  const MemoryDataset data(SyntheticTokens(3000, 50, 1), config.sequence_length);
  RigOptions options;
  options.backend = std::move(backend);
  options.train = &data;
  options.validation = &data;
  const Rig rig = MakeRig(config, std::move(options));
  Outcome outcome;
  outcome.reports.resize(3);
  for (StepReport& report : outcome.reports) {
    EXPECT_TRUE(rig.trainer->Step(&report, nullptr).ok());
  }
  const auto evaluation = rig.trainer->Evaluate();
  EXPECT_TRUE(evaluation.ok());
  outcome.evaluation = evaluation.value().loss;
  outcome.snapshot = rig.trainer->TakeSnapshot();
  return outcome;
}

void ExpectSameBits(const Outcome& a, const Outcome& b) {
  EXPECT_TRUE(SameBytes(a.snapshot, b.snapshot));
  EXPECT_EQ(a.evaluation, b.evaluation);
  for (size_t i = 0; i < a.reports.size(); ++i) {
    EXPECT_EQ(a.reports[i].loss, b.reports[i].loss);
    EXPECT_EQ(a.reports[i].aux_loss, b.reports[i].aux_loss);
    EXPECT_EQ(a.reports[i].gradient_norm, b.reports[i].gradient_norm);
    EXPECT_EQ(a.reports[i].importance, b.reports[i].importance);
  }
}

class RecomputeTest : public ::testing::TestWithParam<Combination> {};

TEST_P(RecomputeTest, HasTheBitsOfKeptActivations) {
  TrainingConfig config = JobOf(GetParam());
  const Outcome kept = Train(config, kernels::MakeCpuBackend(2));
  const Outcome kept_by_reference = Train(config, nullptr);
  for (const Recompute recompute : {Recompute::kAttention, Recompute::kBlock}) {
    config.recompute = recompute;
    ExpectSameBits(Train(config, kernels::MakeCpuBackend(2)), kept);
    ExpectSameBits(Train(config, nullptr), kept_by_reference);
  }
}

INSTANTIATE_TEST_SUITE_P(All, RecomputeTest, ::testing::ValuesIn(AllCombinations(ThreeLayers())),
                         [](const auto& tested) { return tested.param.name; });

// Counts what is asked of the backend's allocator.
class CountingBackend final : public DelegatingBackend {
 public:
  CountingBackend(kernels::Backend* inner, int64_t* bytes)
      : DelegatingBackend(inner), bytes_(bytes) {}
  void* Allocate(int64_t bytes) override {
    *bytes_ += bytes;
    return DelegatingBackend::Allocate(bytes);
  }

 private:
  int64_t* bytes_;
};

int64_t BytesOfGroup(const MemoryPlan& plan, const std::string& name) {
  for (const MemoryPlan::Group& group : plan.groups) {
    if (group.name == name) return group.bytes;
  }
  ADD_FAILURE() << name;
  return 0;
}

TEST(MemoryPlanTest, IsWhatTheTrainerAllocates) {
  const MemoryDataset data(SyntheticTokens(3000, 13, 1), 8);
  const auto cpu = kernels::MakeCpuBackend(2);
  struct Kinds {
    OptimizerKind optimizer;
    MlpKind mlp;
    const char* shared;  // scratch of the MLP and of attention
  };
  for (const Kinds& kinds :
       {Kinds{OptimizerKind::kMuon, MlpKind::kReluSquared, "d_fc or d_q, d_k, d_v"},
        Kinds{OptimizerKind::kAdamW, MlpKind::kReluSquared, "d_fc or d_q, d_k, d_v"},
        Kinds{OptimizerKind::kMuon, MlpKind::kSwiGlu, "act or d_q, d_k, d_v"}}) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kAttention, Recompute::kBlock}) {
      TrainingConfig config = SmallJob();
      config.optimizer.kind = kinds.optimizer;
      config.model.mlp = kinds.mlp;
      config.recompute = recompute;
      const auto plan = PlanMemory(config, 1, cpu.get());
      ASSERT_TRUE(plan.ok());
      int64_t allocated = 0;
      RigOptions options;
      options.backend = std::make_unique<CountingBackend>(cpu.get(), &allocated);
      options.train = &data;
      const Rig rig = MakeRig(config, std::move(options));
      EXPECT_EQ(allocated, plan.value().bytes() - BytesOfGroup(plan.value(), "workspace"));
      const std::string table = FormatMemoryPlan(plan.value());
      for (const char* name : {"transformer.wte.weight", "optimizer/adam_m/lm_head.weight",
                               "lm_head.weight", kinds.shared, "cross-entropy logits"}) {
        EXPECT_NE(table.find(name), std::string::npos) << name << " in\n" << table;
      }
      const bool kept = table.find("layer*/q ") != std::string::npos;
      EXPECT_EQ(kept, recompute == Recompute::kNone) << table;
    }
  }
}

TEST(MemoryPlanTest, RecomputingTakesLess) {
  TrainingConfig config;
  config.model.layers = 12;
  config.model.width = 768;
  config.model.heads = 6;
  config.model.mlp_width = 3072;
  config.sequence_length = 1024;
  const auto cpu = kernels::MakeCpuBackend(1);
  // In widths of a position.
  const auto activations = [&](Recompute recompute) {
    config.recompute = recompute;
    const auto plan = PlanMemory(config, 1, cpu.get());
    EXPECT_TRUE(plan.ok());
    return static_cast<double>(BytesOfGroup(plan.value(), "activations")) / (4.0 * 768 * 8 * 1024);
  };
  // 10 widths a layer are kept, or 6, or 1; and 7 widths are shared.
  EXPECT_NEAR(activations(Recompute::kNone), 12 * 10 + 7, 1);
  EXPECT_NEAR(activations(Recompute::kAttention), 12 * 6 + 4 + 7, 1);
  EXPECT_NEAR(activations(Recompute::kBlock), 12 * 1 + 10 + 7, 1);
  // SwiGLU keeps its gate and up projection, of 8/3 widths each, and not their product.
  config.model.mlp = MlpKind::kSwiGlu;
  config.model.mlp_width = 2048;
  const double mlp = 2 * 8.0 / 3;
  EXPECT_NEAR(activations(Recompute::kNone), 12 * (6 + mlp) + 6, 1);
  EXPECT_NEAR(activations(Recompute::kAttention), 12 * (2 + mlp) + 4 + 6, 1);
  EXPECT_NEAR(activations(Recompute::kBlock), 12 * 1 + 6 + mlp + 6, 1);
}

TEST(MemoryPlanTest, RefusesWhatTheTrainerRefuses) {
  TrainingConfig config = SmallJob();
  config.micro_batch_rows = 2;
  const auto cpu = kernels::MakeCpuBackend(1);
  EXPECT_EQ(PlanMemory(config, 3, cpu.get()).status().code(),
            kernels::StatusCode::kInvalidArgument);
  EXPECT_TRUE(PlanMemory(config, 2, cpu.get()).ok());
}

}  // namespace
}  // namespace sinkforge::trainer
