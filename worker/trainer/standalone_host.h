// StandaloneHost: a run without daemons. Metrics are JSON lines, checkpoints are safetensors files,
// progress goes to stderr, SIGTERM and SIGINT ask for a checkpoint and a stop.
#pragma once

#include <memory>
#include <string>

#include "worker/trainer/background_writer.h"
#include "worker/trainer/core/trainer.h"
#include "worker/trainer/run_host.h"

namespace sinkforge::trainer {

struct StandaloneOptions {
  std::string work_dir;
  int64_t steps = 0;      // of the whole run
  int64_t keep = 3;       // checkpoints
  int64_t dump_step = 0;  // 0: none
  enum class Start { kNew, kResume } start = Start::kNew;
};

// Owned by the train command. SIGTERM and SIGINT must be blocked in every thread
// (base::BlockTerminationSignals), because Poll takes them as they become pending.
class StandaloneHost final : public RunHost {
 public:
  // kFailedPrecondition: the folder holds an earlier run and the start is kNew. kUnavailable: the
  // folder cannot be made or written.
  static kernels::Result<std::unique_ptr<StandaloneHost>> Create(const StandaloneOptions& options);
  ~StandaloneHost() override;

  // The newest checkpoint that is whole; a corrupt one is passed over with a warning.
  kernels::Result<std::optional<StoredCheckpoint>> LoadCheckpoint() override;
  // Drops the lines of metrics.jsonl after the restored step: they are about to be trained again.
  kernels::Status Begin(const RunContext& context, int64_t restored_step) override;
  int64_t durable_step() const override;
  bool checkpoint_failed() const override { return writer_->last_failed(); }

  void Note(const std::string& message) override;

  void OnStep(const StepReport& report) override;
  StepDump* DumpOf(int64_t step) override;
  HostCommand Poll() override;
  kernels::Status WriteCheckpoint(Snapshot snapshot) override;
  kernels::Status FinishCheckpoints() override;
  void Warn(const std::string& message) override;

  // Why metrics or the dump could not be written, if so; the run is then stopped.
  const kernels::Status& failure() const { return failure_; }

 private:
  explicit StandaloneHost(const StandaloneOptions& options);
  kernels::Status KeepMetricsUpTo(int64_t step);
  bool ProgressIsDue(const StepReport& report);
  void Fail(const kernels::Status& status);

  const StandaloneOptions options_;
  const std::string checkpoints_;  // folder
  const std::string metrics_path_;
  int metrics_fd_ = -1;
  RunContext context_;
  int64_t restored_step_ = 0;
  StepDump dump_;
  kernels::Status failure_;
  bool stop_ = false;
  int64_t last_progress_second_ = -1;
  std::unique_ptr<BackgroundWriter> writer_;
};

}  // namespace sinkforge::trainer
