// TrainingHost: what the training loop needs of whoever runs it. Implementations: standalone (files
// and JSON lines) and worker link (gRPC to the worker daemon).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "kernels/tensor.h"

namespace sinkforge::trainer {

struct StepDump;  // trainer.h

// All that one optimizer step measured. Proto: sinkforge.v1.StepRecord, whose comments give units.
struct StepReport {
  int64_t step = 0;  // from 1
  double loss = 0;
  double aux_loss = 0;
  double imbalance = 0;
  std::vector<double> layer_cv;    // [layers]
  std::vector<double> importance;  // [layers * heads]
  int64_t heads = 0;
  double learning_rate_scale = 0;
  double gradient_norm = 0;
  double step_seconds = 0;
  double data_seconds = 0;
  double checkpoint_stall_seconds = 0;  // lost to checkpoints since the previous report
  double tokens_per_second = 0;
  int64_t tokens_total = 0;
  std::optional<double> validation_loss;
  std::optional<double> validation_bits_per_byte;
};

// One named tensor of a checkpoint. `offset` and `length` (elements of the flattened tensor) are
// the rank's slice.
struct SnapshotTensor {
  std::string name;
  std::string dtype;           // safetensors name: "F32", "I64"
  std::vector<int64_t> shape;  // of the whole tensor
  int64_t offset = 0;
  int64_t length = 0;
  std::vector<std::byte> bytes;  // host copy
};

// Where a run stands, beside its tensors. Everything random is a function of the seed and of these.
struct TrainerState {
  int64_t step = 0;           // optimizer steps done
  int64_t rows_consumed = 0;  // of the training data, over all ranks
  int64_t tokens_total = 0;
  uint64_t seed = 0;
  // What train.loss_spike compares with: a run that was interrupted decides as one that was not.
  double smooth_loss = 0;
  int64_t smoothed_steps = 0;
};

// A consistent copy of everything a rank needs to go on. The outer trainer adds file digests and
// the environment (threads, processor, backend) when it stores one.
struct Snapshot {
  TrainerState state;
  double loss = 0;
  double imbalance = 0;
  std::optional<double> validation_loss;  // nats per token, where the step was validated
  std::vector<SnapshotTensor> tensors;
};

enum class HostCommand {
  kTrain,
  kCheckpointAndStop,
  kAbandon
};  // kAbandon: the attempt is over; write nothing more

class TrainingHost {
 public:
  virtual ~TrainingHost() = default;
  // Never waits for the network.
  virtual void OnStep(const StepReport& report) = 0;
  // Where the step that comes next shall be dumped; null: nowhere. It is filled when OnStep of that
  // step is called. A rank may ask for a dump while the others do not.
  virtual StepDump* DumpOf(int64_t /*step*/) { return nullptr; }
  // What is wanted now. Never waits for the network.
  virtual HostCommand Poll() = 0;
  // Takes the snapshot and makes it durable in the background; waits only while an earlier one is
  // still being written. An earlier write's failure is returned here (or by FinishCheckpoints), and
  // the snapshot is still taken.
  virtual kernels::Status WriteCheckpoint(Snapshot snapshot) = 0;
  // Waits until everything taken is durable.
  virtual kernels::Status FinishCheckpoints() = 0;
  // For people and the event log, for example "not_bit_exact: ...".
  virtual void Warn(const std::string& message) = 0;
};

}  // namespace sinkforge::trainer
