// What the head-balance loss costs a training step: the median ratio of a step with importance and
// loss to a step whose attention computes neither (kernels/cpu/attention_baseline.h), the rest of
// the model, the data and the optimizer being the same.
//
// Both models live in one process and take turns, and every other pair in the opposite order, so
// that a drift of the machine's speed meets both alike.
//
// Usage: loss_cost [--pairs N] [--threads N] [--attention vanilla|sink|gated]...
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cpu/attention_baseline.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/arbitrary_rows.h"
#include "tests/bench/paired_ratio.h"
#include "worker/trainer/core/solo_collective.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::bench {
namespace {

using kernels::AttentionVariant;
using trainer::TrainingConfig;

constexpr double kLimit = 1.01;
constexpr int kWarmupPairs = 5;  // The first steps allocate workspace.
constexpr int kResamples = 2000;

struct Arguments {
  int pairs = 300;
  int threads = 2;
  std::vector<std::string> attention;
};

// The quickstart's model (deploy/jobs/quickstart.yaml) with a quarter of its batch.
TrainingConfig ConfigOf(AttentionVariant attention) {
  TrainingConfig config;
  config.model.layers = 4;
  config.model.width = 128;
  config.model.heads = 8;
  config.model.mlp_width = 512;
  config.model.attention = attention;
  config.steps = int64_t{1} << 40;  // The learning rate stays constant.
  config.sequence_length = 256;
  config.micro_batch_rows = 8;
  return config;
}

// A backend and the trainer on it.
struct Side {
  Side(std::unique_ptr<kernels::Backend> made, const TrainingConfig& config,
       const trainer::Dataset& data)
      : backend(std::move(made)) {
    trainer::TrainerEnvironment environment;
    environment.backend = backend.get();
    environment.collective = &collective;
    environment.train = &data;
    auto created = trainer::Trainer::Create(config, environment);
    Require(created.status());
    model = std::move(created).value();
  }

  static void Require(const kernels::Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "loss_cost: %s\n", status.message().c_str());
    std::exit(1);
  }

  double SecondsOfStep() {
    trainer::StepReport report;
    const auto start = std::chrono::steady_clock::now();
    Require(model->Step(&report, nullptr));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  std::unique_ptr<kernels::Backend> backend;
  trainer::SoloCollective collective;
  std::unique_ptr<trainer::Trainer> model;
};

const char* VerdictText(Verdict verdict) {
  switch (verdict) {
    case Verdict::kWithin:
      return "at most 1 %";
    case Verdict::kAbove:
      return "more than 1 %";
    case Verdict::kNotResolved:
      return "not resolved";
  }
  return "";
}

Verdict Measure(const std::string& name, AttentionVariant attention, const Arguments& arguments) {
  TrainingConfig config = ConfigOf(attention);
  const ArbitraryRows data(config.sequence_length, config.model.vocab_size);
  Side without(kernels::MakeCpuBackendWithoutImportance(arguments.threads), config, data);
  config.head_balance.loss = kernels::BalanceLoss::kCv;
  config.head_balance.coefficient = 1e-3;
  Side with(kernels::MakeCpuBackend(arguments.threads), config, data);

  std::vector<double> ratios;
  std::vector<double> baseline;
  for (int pair = -kWarmupPairs; pair < arguments.pairs; ++pair) {
    double seconds_with = 0;
    double seconds_without = 0;
    if (pair % 2 == 0) {
      seconds_with = with.SecondsOfStep();
      seconds_without = without.SecondsOfStep();
    } else {
      seconds_without = without.SecondsOfStep();
      seconds_with = with.SecondsOfStep();
    }
    if (pair < 0) continue;
    ratios.push_back(seconds_with / seconds_without);
    baseline.push_back(seconds_without);
  }
  const Interval interval = BootstrapMedian(ratios, kResamples);
  const Verdict verdict = Judge(interval, kLimit);
  std::printf("| %s | %.2f | %zu | %.4f | %.4f to %.4f | %s |\n", name.c_str(),
              1e3 * Median(baseline), ratios.size(), interval.median, interval.low, interval.high,
              VerdictText(verdict));
  std::fflush(stdout);
  return verdict;
}

std::optional<AttentionVariant> VariantOf(const std::string& name) {
  if (name == "vanilla") return AttentionVariant::kVanilla;
  if (name == "sink") return AttentionVariant::kSink;
  if (name == "gated") return AttentionVariant::kGated;
  return std::nullopt;
}

std::optional<Arguments> Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--pairs") {
      arguments.pairs = std::atoi(argv[i + 1]);
    } else if (flag == "--threads") {
      arguments.threads = std::atoi(argv[i + 1]);
    } else if (flag == "--attention" && VariantOf(argv[i + 1])) {
      arguments.attention.push_back(argv[i + 1]);
    } else {
      return std::nullopt;
    }
  }
  if (argc % 2 == 0 || arguments.pairs < 1 || arguments.threads < 1) return std::nullopt;
  if (arguments.attention.empty()) arguments.attention = {"gated", "sink", "vanilla"};
  return arguments;
}

int Run(int argc, char** argv) {
  const std::optional<Arguments> arguments = Parse(argc, argv);
  if (!arguments) {
    std::fprintf(
        stderr,
        "Usage: loss_cost [--pairs N] [--threads N] "
        "[--attention vanilla|sink|gated]...\n"
        "Prints what the head-balance loss costs a step; exit status 1 if more than 1 %%.\n");
    return 2;
  }
  std::printf(
      "| attention | step without, ms | pairs | median ratio | 95 %% interval | loss costs |\n"
      "|---|---|---|---|---|---|\n");
  bool above = false;
  for (const std::string& name : arguments->attention) {
    above = Measure(name, *VariantOf(name), *arguments) == Verdict::kAbove || above;
  }
  return above ? 1 : 0;
}

}  // namespace
}  // namespace sinkforge::bench

int main(int argc, char** argv) { return sinkforge::bench::Run(argc, argv); }
