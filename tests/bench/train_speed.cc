// One side of train_speed.py: the CPU trainer, which takes a step whenever it is told to.
//
// Arguments: key=value of the row (layers, width, heads, vocabulary, context, rows, optimizer,
// attention, recompute, importance, loss, shared, threads). Then commands on standard input, one a
// line, each answered by a line:
//   step      one optimizer step           -> seconds, processor seconds, loss
//   peak      -> the peak resident set of the process so far, in MiB
//   profile   one optimizer step, timed op by op -> a table, ended by an empty line. A product's
//             rate is also given as a share of what the matrix library reaches on 2048^3.
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
    config.head_balance = {kernels::BalanceLoss::kCv, 1e-3, row.Number("shared")};
  }
  config.steps = int64_t{1} << 40;  // The learning rate stays constant.
  config.sequence_length = row.Number("context");
  config.micro_batch_rows = row.Number("rows");
  return config;
}

int Run(int argc, char** argv) {
  const KeyValues row("train_speed", argc, argv);
  const TrainingConfig config = ConfigOf(row);
  const ArbitraryRows data(config.sequence_length, config.model.vocab_size);
  const int threads = static_cast<int>(row.Number("threads"));
  const auto backend = row.Word("importance", "yes") == "no"
                           ? kernels::MakeCpuBackendWithoutImportance(threads)
                           : kernels::MakeCpuBackend(threads);
  TimingBackend timing(backend.get());
  trainer::SoloCollective collective;
  trainer::TrainerEnvironment environment;
  environment.backend = &timing;
  environment.collective = &collective;
  environment.train = &data;
  auto trainer = trainer::Trainer::Create(config, environment);
  if (!trainer.ok()) row.Fail(trainer.status().message());
  trainer::StepReport report;
  const auto step = [&] {
    const auto start = std::chrono::steady_clock::now();
    const kernels::Status status = trainer.value()->Step(&report, nullptr);
    if (!status.ok()) row.Fail(status.message());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  std::string command;
  while (std::getline(std::cin, command)) {
    if (command == "step") {
      const std::clock_t processor = std::clock();
      const double seconds = step();
      const double processor_seconds =
          static_cast<double>(std::clock() - processor) / CLOCKS_PER_SEC;
      std::printf("%.6f %.6f %.6f\n", seconds, processor_seconds, report.loss);
    } else if (command == "peak") {
      std::printf("%.1f\n", PeakResidentMebibytes());
    } else if (command == "profile") {
      timing.Start();
      const double seconds = step();
      std::printf("%s\n", timing.Table(seconds).c_str());
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
