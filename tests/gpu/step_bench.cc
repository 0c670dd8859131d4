// Times whole training steps: without the head-balance loss, with it, and with it on CUDA graphs,
// each a model of its own on one card, in turn, so that what drifts falls on all alike. One CSV
// line a case: its parameters and micro-batches, the median step, by how much it takes longer than
// the first case (the median of the rounds' ratios, with its 95% bootstrap interval), and the
// device memory that it took.
#include <cuda_runtime.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "tests/bench/arbitrary_rows.h"
#include "tests/bench/paired_ratio.h"
#include "tests/gpu/arguments.h"
#include "tests/gpu/training_config.h"
#include "worker/trainer/core/solo_collective.h"
#include "worker/trainer/core/stopwatch.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::gpu {
namespace {

// A graph is launched from the third time on that its work is asked for.
constexpr int kWarmUpSteps = 4;

[[noreturn]] void Fail(const std::string& why) {
  std::fprintf(stderr, "error: %s\n", why.c_str());
  std::exit(1);
}

int64_t FreeDeviceBytes() {
  size_t free = 0;
  size_t total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) Fail("no GPU to be asked for its memory");
  return static_cast<int64_t>(free);
}

class Case {
 public:
  Case(std::string name, const trainer::TrainingConfig& config,
       const kernels::CudaBackendOptions& options)
      : name_(std::move(name)), rows_(config.sequence_length, config.model.vocab_size) {
    const int64_t free_before = FreeDeviceBytes();
    auto backend = kernels::MakeCudaBackend(options);
    if (!backend.ok()) Fail(backend.status().message());
    backend_ = std::move(backend).value();
    trainer::TrainerEnvironment environment;
    environment.backend = backend_.get();
    environment.collective = &collective_;
    environment.train = &rows_;
    auto trainer = trainer::Trainer::Create(config, environment);
    if (!trainer.ok()) Fail(name_ + ": " + trainer.status().message());
    trainer_ = std::move(trainer).value();
    for (int step = 0; step < kWarmUpSteps; ++step) Step();
    seconds_.clear();
    // Nothing is given back before the end, so this is the peak.
    taken_bytes_ = free_before - FreeDeviceBytes();
  }

  void Step() {
    const trainer::Stopwatch stopwatch;
    trainer::StepReport report;
    const kernels::Status status = trainer_->Step(&report, nullptr);
    if (!status.ok()) Fail(name_ + ": " + status.message());
    if (cudaDeviceSynchronize() != cudaSuccess) Fail(name_ + ": the device failed");
    seconds_.push_back(stopwatch.Seconds());
  }

  void Print(const std::string& what, int64_t tokens, const Case& first) const {
    std::vector<double> ratios;
    for (size_t i = 0; i < seconds_.size(); ++i) ratios.push_back(seconds_[i] / first.seconds_[i]);
    const bench::Interval ratio = bench::BootstrapMedian(ratios, 2000);
    std::printf("ours,%s_%s,%lld,%lld,%.6f,%.2f,%.3f,%.3f,%.3f\n", what.c_str(), name_.c_str(),
                static_cast<long long>(trainer_->parameter_count()), static_cast<long long>(tokens),
                bench::Median(seconds_), static_cast<double>(taken_bytes_) / (1 << 30),
                100 * (ratio.median - 1), 100 * (ratio.low - 1), 100 * (ratio.high - 1));
  }

 private:
  std::string name_;
  bench::ArbitraryRows rows_;
  trainer::SoloCollective collective_;
  std::unique_ptr<kernels::Backend> backend_;
  std::unique_ptr<trainer::Trainer> trainer_;
  std::vector<double> seconds_;
  int64_t taken_bytes_ = 0;
};

int Run(const Arguments& arguments) {
  trainer::TrainingConfig with_loss = TrainingConfigOf(arguments);
  const int64_t rounds = with_loss.steps;
  with_loss.steps = 1'000'000;  // the learning rate stays as it is at first
  trainer::TrainingConfig without_loss = with_loss;
  without_loss.head_balance = {};
  kernels::CudaBackendOptions direct;
  direct.attention = arguments.Kernels("kernels");
  kernels::CudaBackendOptions graphs = direct;
  graphs.graphs = kernels::CudaGraphs::kOn;
  FreeDeviceBytes();  // makes the driver's own context, which is not counted
  std::vector<std::unique_ptr<Case>> cases;
  cases.push_back(std::make_unique<Case>("without_loss", without_loss, direct));
  cases.push_back(std::make_unique<Case>("with_loss", with_loss, direct));
  cases.push_back(std::make_unique<Case>("with_loss_graphs", with_loss, graphs));
  for (int64_t round = 0; round < rounds; ++round) {
    // Each case begins as many rounds as the others.
    for (size_t i = 0; i < cases.size(); ++i) {
      cases[(static_cast<size_t>(round) + i) % cases.size()]->Step();
    }
  }
  const std::string what = arguments.Text("name") + "_" + arguments.Text("kernels");
  const int64_t tokens =
      with_loss.micro_batch_rows * with_loss.sequence_length * with_loss.micro_steps;
  for (const auto& one : cases) one->Print(what, tokens, *cases.front());
  return 0;
}

}  // namespace
}  // namespace sinkforge::gpu

int main(int argc, char** argv) {
  const sinkforge::gpu::Arguments arguments(argc, argv,
                                            {{"attention", "gated"},
                                             {"coefficient", "1e-3"},
                                             {"depth", "12"},
                                             {"gate_init", "0.02"},
                                             {"head_dim", "128"},
                                             {"kernels", "tensor_cores"},
                                             {"micro_steps", "4"},
                                             {"name", "d12"},
                                             {"rows", "8"},
                                             {"sequence", "2048"},
                                             {"sink_init_high", "0"},
                                             {"steps", "30"},
                                             {"vocab", "65536"}});
  return sinkforge::gpu::Run(arguments);
}
