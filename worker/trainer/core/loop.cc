// RunTraining: step, evaluate, report, obey, checkpoint, until the job is done or told to stop.
#include <algorithm>
#include <string>
#include <utility>

#include "worker/trainer/core/stopwatch.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

bool Due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

// The control word is the command's place in this order: of different wishes the strongest counts.
static_assert(static_cast<int>(HostCommand::kTrain) <
              static_cast<int>(HostCommand::kCheckpointAndStop));
static_assert(static_cast<int>(HostCommand::kCheckpointAndStop) <
              static_cast<int>(HostCommand::kAbandon));

// One run of the loop. Lives on RunTraining's stack.
class Loop {
 public:
  Loop(Trainer& trainer, const TrainingConfig& config, TrainingHost& host, Collective& collective)
      : trainer_(trainer), config_(config), host_(host), collective_(collective) {}

  Result<TrainingEnd> Run() {
    while (trainer_.steps_done() < config_.steps) {
      if (Status status = OneStep(); !status.ok()) return status;
      const Result<HostCommand> command = AgreedCommand();
      if (!command.ok()) return command.status();
      if (command.value() == HostCommand::kAbandon) return TrainingEnd::kAbandoned;
      if (trainer_.steps_done() == config_.steps) break;
      if (command.value() == HostCommand::kCheckpointAndStop) {
        return Finish(TrainingEnd::kStopped);
      }
      if (Due(trainer_.steps_done(), config_.checkpoint_every_steps)) PeriodicCheckpoint();
    }
    return Finish(TrainingEnd::kCompleted);
  }

 private:
  Status OneStep() {
    const int64_t step = trainer_.steps_done() + 1;
    if (Status status = trainer_.Step(&report_, host_.DumpOf(step)); !status.ok()) return status;
    report_.checkpoint_stall_seconds = stall_seconds_;
    stall_seconds_ = 0;
    const bool last = step == config_.steps;
    if (trainer_.can_evaluate() && (last || Due(step, config_.evaluate_every_steps))) {
      const Result<Evaluation> evaluation = trainer_.Evaluate();
      if (!evaluation.ok()) return evaluation.status();
      report_.validation_loss = evaluation.value().loss;
      report_.validation_bits_per_byte = evaluation.value().bits_per_byte;
    }
    host_.OnStep(report_);
    return Status();
  }

  // All ranks act on the same command at the same step: the strongest that any rank was given.
  Result<HostCommand> AgreedCommand() {
    int64_t word = static_cast<int64_t>(host_.Poll());
    if (Status status = collective_.AllReduceMax(std::span<int64_t>(&word, 1)); !status.ok()) {
      return status;
    }
    return static_cast<HostCommand>(word);
  }

  Status WriteCheckpoint() {
    Snapshot snapshot = trainer_.TakeSnapshot();
    snapshot.validation_loss = report_.validation_loss;
    return host_.WriteCheckpoint(std::move(snapshot));
  }

  void PeriodicCheckpoint() {
    const Stopwatch stopwatch;
    WarnOf(WriteCheckpoint());
    stall_seconds_ += stopwatch.Seconds();
  }

  void WarnOf(const Status& status) {
    if (status.ok()) return;
    host_.Warn("a checkpoint could not be made durable, training goes on: " + status.message());
  }

  // The last checkpoint. Earlier ones are waited for first, so that a failure reported afterwards
  // is its own.
  Result<TrainingEnd> Finish(TrainingEnd end) {
    WarnOf(host_.FinishCheckpoints());
    Status status = WriteCheckpoint();
    if (status.ok()) status = host_.FinishCheckpoints();
    if (status.ok()) return end;
    return Status(status.code(),
                  "step " + std::to_string(trainer_.steps_done()) +
                      ": the last checkpoint could not be made durable: " + status.message());
  }

  Trainer& trainer_;
  const TrainingConfig& config_;
  TrainingHost& host_;
  Collective& collective_;
  StepReport report_;
  double stall_seconds_ = 0;
};

}  // namespace

Result<TrainingEnd> RunTraining(Trainer& trainer, const TrainingConfig& config, TrainingHost& host,
                                Collective& collective) {
  return Loop(trainer, config, host, collective).Run();
}

}  // namespace sinkforge::trainer
