// One side of train_speed.py: the CPU trainer, which takes a step whenever it is told to.
//
// Arguments: key=value of the row (layers, width, heads, vocabulary, context, rows, optimizer,
// attention, recompute, importance, loss, coefficient, shared, precision, threads, clock). Then
// commands on standard input, one a line, each answered by a line:
//   step      one optimizer step           -> seconds, processor seconds, loss
//   peak      -> the peak resident set of the process so far, in MiB
//   profile   one optimizer step, timed op by op -> a table, ended by an empty line. A product's
//             rate is also given as a share of what the matrix library reaches on 2048^3.
//   products  one optimizer step -> GFLOP/s of its linear layers, and of 2048^3
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <string>

#include "kernels/cpu/attention_baseline.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/arbitrary_rows.h"
#include "tests/bench/key_values.h"
#include "tests/bench/timing_backend.h"
#include "worker/trainer/core/solo_collective.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::bench {
namespace {

using kernels::AttentionVariant;
using trainer::TrainingConfig;

TrainingConfig ConfigOf(const KeyValues& row) {
  TrainingConfig config;
  config.model.layers = row.Number("layers");
  config.model.width = row.Number("width");
  config.model.heads = row.Number("heads");
  config.model.mlp_width = 4 * config.model.width;
  config.model.vocab_size = row.Number("vocabulary");
  const std::string attention = row.Word("attention", "vanilla");
  if (attention == "sink") config.model.attention = AttentionVariant::kSink;
  if (attention == "gated") config.model.attention = AttentionVariant::kGated;
  const std::string recompute = row.Word("recompute", "none");
  if (recompute == "attention") config.recompute = trainer::Recompute::kAttention;
  if (recompute == "block") config.recompute = trainer::Recompute::kBlock;
  if (row.Word("optimizer", "muon") == "adamw") {
    config.optimizer.kind = trainer::OptimizerKind::kAdamW;
    config.optimizer.matrix_lr = config.optimizer.embedding_lr = 3e-4;
    config.optimizer.unembedding_lr = 3e-4;
  }
  if (row.Word("loss", "none") == "cv") {
    const double coefficient = std::strtod(row.Word("coefficient", "1e-3").c_str(), nullptr);
    config.head_balance = {kernels::BalanceLoss::kCv, coefficient, row.Number("shared")};
  }
  config.steps = int64_t{1} << 40;  // The learning rate stays constant.
  config.sequence_length = row.Number("context");
  config.micro_batch_rows = row.Number("rows");
  return config;
}

double WallSeconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

double ProcessorSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::unique_ptr<kernels::Backend> MakeBackend(const KeyValues& row) {
  kernels::CpuBackendOptions options;
  options.threads = static_cast<int>(row.Number("threads"));
  if (row.Word("importance", "yes") == "no") {
    return kernels::MakeCpuBackendWithoutImportance(options.threads);
  }
  if (row.Word("precision", "fp32") == "bf16") {
    if (!kernels::ProcessorMultipliesBfloat16()) row.Fail("this processor has no bfloat16 units");
    options.products = kernels::ProductPrecision::kBfloat16;
  }
  return kernels::MakeCpuBackend(options);
}

int Run(int argc, char** argv) {
  const KeyValues row("train_speed", argc, argv);
  const TrainingConfig config = ConfigOf(row);
  const ArbitraryRows data(config.sequence_length, config.model.vocab_size);
  const auto backend = MakeBackend(row);
  const bool by_processor = row.Word("clock", "wall") == "processor";
  TimingBackend timing(backend.get(), by_processor ? ProcessorSeconds : WallSeconds);
  trainer::SoloCollective collective;
  trainer::TrainerEnvironment environment;
  environment.backend = &timing;
  environment.collective = &collective;
  environment.train = &data;
  auto trainer = trainer::Trainer::Create(config, environment);
  if (!trainer.ok()) row.Fail(trainer.status().message());
  trainer::StepReport report;
  const auto step = [&] {
    const double start = WallSeconds();
    const kernels::Status status = trainer.value()->Step(&report, nullptr);
    if (!status.ok()) row.Fail(status.message());
    return WallSeconds() - start;
  };
  std::string command;
  while (std::getline(std::cin, command)) {
    if (command == "step") {
      const double processor = ProcessorSeconds();
      const double seconds = step();
      std::printf("%.6f %.6f %.6f\n", seconds, ProcessorSeconds() - processor, report.loss);
    } else if (command == "peak") {
      std::printf("%.1f\n", PeakResidentMebibytes());
    } else if (command == "profile") {
      const double start = by_processor ? ProcessorSeconds() : WallSeconds();
      timing.Start();
      step();
      const double end = by_processor ? ProcessorSeconds() : WallSeconds();
      std::printf("%s\n", timing.Table(end - start).c_str());
    } else if (command == "products") {
      timing.Start();
      step();
      const TimingBackend::Rates rates = timing.ProductRates();
      std::printf("%.1f %.1f\n", rates.products / 1e9, rates.peak / 1e9);
    } else {
      row.Fail("unknown command " + command);
    }
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace sinkforge::bench

int main(int argc, char** argv) { return sinkforge::bench::Run(argc, argv); }
