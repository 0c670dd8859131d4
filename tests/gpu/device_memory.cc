// Small models on the trainer's own Trainer.
#include "tests/gpu/device_memory.h"

#include <algorithm>
#include <cstdio>

#include "kernels/cuda/cuda_backend.h"
#include "tests/bench/arbitrary_rows.h"
#include "tests/gpu/device_run.h"
#include "worker/trainer/core/memory_plan.h"
#include "worker/trainer/core/solo_collective.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::kernels::conformance {
namespace {

using trainer::MemoryPlan;
using trainer::TrainingConfig;

struct MemoryCase {
  const char* name;
  AttentionVariant attention;
  GateGranularity gate;
  HeadNorm head_norm;
  trainer::OptimizerKind optimizer;
  CudaPrecision precision;
  CudaGradientOrder order = CudaGradientOrder::kFixed;
};
constexpr MemoryCase kCases[] = {
    {"Memory_Vanilla_AdamW_AnyOrder", AttentionVariant::kVanilla, GateGranularity::kHead,
     HeadNorm::kNone, trainer::OptimizerKind::kAdamW, CudaPrecision::kMixed,
     CudaGradientOrder::kAny},
    {"Memory_Sink_AdamW_Float32", AttentionVariant::kSink, GateGranularity::kHead, HeadNorm::kNone,
     trainer::OptimizerKind::kAdamW, CudaPrecision::kFloat32},
    {"Memory_Sink_Muon", AttentionVariant::kSink, GateGranularity::kHead, HeadNorm::kNone,
     trainer::OptimizerKind::kMuon, CudaPrecision::kMixed},
    {"Memory_GatedElement_Rms_AdamW", AttentionVariant::kGated, GateGranularity::kElement,
     HeadNorm::kRms, trainer::OptimizerKind::kAdamW, CudaPrecision::kMixed},
};

TrainingConfig ConfigOf(const MemoryCase& memory) {
  TrainingConfig config;
  config.model.layers = 1;
  config.model.width = 128;
  config.model.heads = 2;
  config.model.vocab_size = 96;
  config.model.mlp_width = 256;
  config.model.attention = memory.attention;
  config.model.gate = memory.gate;
  config.model.head_norm = memory.head_norm;
  config.optimizer.kind = memory.optimizer;
  config.steps = 1;
  config.sequence_length = 40;
  config.micro_batch_rows = 2;
  config.evaluation_tokens = config.sequence_length;
  return config;
}

// What training takes of the device, all of which it still holds at the end.
Result<int64_t> TakenBytes(const TrainingConfig& config, Backend* backend) {
  const bench::ArbitraryRows rows(config.sequence_length, config.model.vocab_size);
  trainer::SoloCollective collective;
  trainer::TrainerEnvironment environment;
  environment.backend = backend;
  environment.collective = &collective;
  environment.train = &rows;
  environment.validation = &rows;
  const int64_t before = *backend->FreeDeviceBytes();
  auto trainer = trainer::Trainer::Create(config, environment);
  if (!trainer.ok()) return trainer.status();
  for (int64_t step = 0; step < config.steps; ++step) {
    trainer::StepReport report;
    const Status status = trainer.value()->Step(&report, nullptr);
    if (!status.ok()) return status;
  }
  const auto evaluation = trainer.value()->Evaluate();
  if (!evaluation.ok()) return evaluation.status();
  return before - *backend->FreeDeviceBytes();
}

// Empty where it is as planned.
std::string Check(const MemoryCase& memory) {
  const TrainingConfig config = ConfigOf(memory);
  CudaBackendOptions options;
  options.precision = memory.precision;
  options.gradient_order = memory.order;
  Result<std::unique_ptr<Backend>> backend = MakeCudaBackend(options);
  if (!backend.ok()) return backend.status().message();
  const Result<MemoryPlan> plan = trainer::PlanMemory(config, 1, backend.value().get());
  if (!plan.ok()) return plan.status().message();
  const Result<int64_t> taken = TakenBytes(config, backend.value().get());
  if (!taken.ok()) return taken.status().message();
  int64_t at_most = 0;
  for (const MemoryPlan::Entry& entry : plan.value().groups.back().entries) {
    if (entry.name == "Newton-Schulz, at most") at_most = entry.bytes;
  }
  const int64_t most = plan.value().bytes() + UnplannedBytesMax();
  const int64_t least = plan.value().bytes() - at_most - UncountedBytesMax();
  std::printf("%s: %lld bytes taken, %lld planned, %lld of them at most\n", memory.name,
              static_cast<long long>(taken.value()), static_cast<long long>(plan.value().bytes()),
              static_cast<long long>(at_most));
  const bool as_planned = taken.value() >= least && taken.value() <= most;
  return as_planned ? "" : "not what is planned\n" + trainer::FormatMemoryPlan(plan.value());
}

}  // namespace

Counts CheckMemoryPlans(const Selection& selection) {
  Counts counts;
  for (const MemoryCase& memory : kCases) {
    if (!selection.Has(memory.name) || !selection.Has(CudaAttention::kDefault)) continue;
    BeginCase(memory.name);
    ++counts.run;
    const std::string failure = Check(memory);
    if (failure.empty()) continue;
    std::printf("FAILED %s: %s\n", memory.name, failure.c_str());
    ++counts.failed;
  }
  return counts;
}

}  // namespace sinkforge::kernels::conformance
