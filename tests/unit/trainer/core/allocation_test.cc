// A steady step on the CPU backend allocates nothing. This binary counts every call of operator
// new; it is alone in it because the replacement is global.
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>

#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/trainer/core/counting_new.h"
#include "tests/unit/trainer/core/test_support.h"
#include "worker/trainer/core/memory_plan.h"

namespace sinkforge::trainer {
namespace {

class AllocationTest : public ::testing::TestWithParam<kernels::AttentionVariant> {};

TEST_P(AllocationTest, ASteadyStepAllocatesNothing) {
  const std::string path =
      (std::filesystem::temp_directory_path() /
       ("allocation_test." + std::to_string(static_cast<int>(GetParam())) + ".txt"))
          .string();
  {
    std::ofstream file(path, std::ios::binary);
    for (const int32_t token : SyntheticTokens(3000, 200, 1)) file.put(static_cast<char>(token));
  }
  auto data = Dataset::Open({{path}}, {});
  std::filesystem::remove(path);
  ASSERT_TRUE(data.ok());
  ASSERT_EQ(data.value()->rows(), 11);

  const auto make_rig = [&](const TrainingConfig& config) {
    RigOptions options;
    options.backend = kernels::MakeCpuBackend(2);
    options.train = data.value().get();
    options.validation = data.value().get();
    return MakeRig(config, std::move(options));
  };
  for (const auto& [kind, recompute] : {std::pair{OptimizerKind::kMuon, Recompute::kNone},
                                        std::pair{OptimizerKind::kAdamW, Recompute::kNone},
                                        std::pair{OptimizerKind::kAdamW, Recompute::kAttention},
                                        std::pair{OptimizerKind::kMuon, Recompute::kBlock}}) {
    TrainingConfig config = SmallJob();
    config.recompute = recompute;
    config.model.width = 64;
    config.model.vocab_size = 256;
    config.model.attention = GetParam();
    config.head_balance.loss = kernels::BalanceLoss::kSwitch;
    config.optimizer.kind = kind;
    config.sequence_length = 256;
    config.micro_steps = 2;
    StepReport report;
    // The matrix library makes its code at the process's first products, and keeps it.
    ASSERT_TRUE(make_rig(config).trainer->Step(&report, nullptr).ok());
    Rig rig = make_rig(config);
    const auto plan = PlanMemory(config, 1, rig.backend.get());
    ASSERT_TRUE(plan.ok());
    const int64_t live = LiveBytes();
    // The first steps size the workspaces; evaluation has its own shapes.
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(rig.trainer->Step(&report, nullptr).ok());
    ASSERT_TRUE(rig.trainer->Evaluate().ok());
    // The rest is a few small vectors of the reports and of the sums.
    const int64_t workspace = plan.value().groups.back().bytes;
    EXPECT_GE(LiveBytes() - live, workspace);
    EXPECT_LE(LiveBytes() - live, workspace + workspace / 8 + 65'536);
    const int64_t before = AllocationsSoFar();
    // Six steps of eight rows: over the borders of four epochs.
    for (int i = 0; i < 6; ++i) ASSERT_TRUE(rig.trainer->Step(&report, nullptr).ok());
    const bool evaluated = rig.trainer->Evaluate().ok();
    const int64_t after = AllocationsSoFar();
    EXPECT_TRUE(evaluated);
    EXPECT_EQ(after - before, 0);
  }
}

// The matrix library makes lists of arguments for every bfloat16 product, and frees them: nothing
// that is allocated in a steady step stays.
TEST(Bfloat16AllocationTest, ASteadyStepKeepsWhatItHas) {
  const MemoryDataset data(SyntheticTokens(30'000, 256, 1), 256);
  for (const auto& precision :
       {kernels::ProductPrecision::kBfloat16, kernels::ProductPrecision::kBfloat16Emulated}) {
    const bool emulated = precision == kernels::ProductPrecision::kBfloat16Emulated;
    if (!emulated && !kernels::ProcessorMultipliesBfloat16()) continue;
    TrainingConfig config = SmallJob();
    config.model.width = 64;
    config.model.mlp_width = 256;
    config.model.vocab_size = 256;
    config.sequence_length = 256;
    kernels::CpuBackendOptions backend;
    backend.threads = 2;
    backend.products = precision;
    RigOptions options;
    options.backend = kernels::MakeCpuBackend(backend);
    options.train = &data;
    Rig rig = MakeRig(config, std::move(options));
    const auto plan = PlanMemory(config, 1, rig.backend.get());
    ASSERT_TRUE(plan.ok());
    StepReport report;
    const int64_t before = LiveBytes();
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(rig.trainer->Step(&report, nullptr).ok());
    EXPECT_GE(LiveBytes() - before, plan.value().groups.back().bytes);
    const int64_t live = LiveBytes();
    const int64_t allocations = AllocationsSoFar();
    for (int i = 0; i < 6; ++i) ASSERT_TRUE(rig.trainer->Step(&report, nullptr).ok());
    EXPECT_EQ(LiveBytes(), live);
    if (emulated) {
      EXPECT_EQ(AllocationsSoFar(), allocations);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AllocationTest,
                         ::testing::Values(kernels::AttentionVariant::kVanilla,
                                           kernels::AttentionVariant::kSink,
                                           kernels::AttentionVariant::kGated));

}  // namespace
}  // namespace sinkforge::trainer
