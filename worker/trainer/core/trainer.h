// Trainer: one rank's model, optimizer and position in the data; RunTraining: the loop around it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "worker/trainer/core/collective.h"
#include "worker/trainer/core/config.h"
#include "worker/trainer/core/dataset.h"
#include "worker/trainer/core/host.h"
#include "worker/trainer/core/loss_sums.h"
#include "worker/trainer/core/shard_plan.h"

namespace sinkforge::trainer {

// A parameter as the outside sees it; tensor names and shapes are architecture.md's.
struct NamedTensor {
  std::string name;
  kernels::Tensor tensor;
};

// What --dump-step writes, gathered while the step runs.
struct StepDump {
  int64_t micro_steps = 0, rows = 0, sequence = 0;
  std::vector<int32_t> inputs, targets;    // [micro_steps, rows, T], the rows of all ranks
  std::vector<SnapshotTensor> parameters;  // before the step
  std::vector<SnapshotTensor> gradients;   // of the total loss, before clipping
  std::vector<double> importance;          // [layers, heads]
  std::vector<double> layer_cv;
  double base = 0, aux = 0, imbalance = 0;
};

struct TrainerEnvironment {
  kernels::Backend* backend = nullptr;  // not owned
  Collective* collective = nullptr;     // not owned
  const Dataset* train = nullptr;       // not owned
  const Dataset* validation = nullptr;  // not owned; may be null
  // Gradients are exchanged in buckets of at least so many bytes (ShardOptions).
  int64_t bucket_bytes_min = ShardOptions().bucket_bytes_min;
};

class Trainer {
 public:
  // kInvalidArgument: a shape that cannot be; kResourceExhausted: the arena does not fit.
  static kernels::Result<std::unique_ptr<Trainer>> Create(const TrainingConfig& config,
                                                          const TrainerEnvironment& environment);
  virtual ~Trainer() = default;

  // One optimizer step. kNonFinite names the step and leaves parameters and optimizer state as they
  // were before it. kUnavailable: a rank was lost, perhaps while the parameters were gathered; make
  // a new trainer. Only the own part of gradients() is the sum over the ranks, unless any rank
  // asked for a dump.
  virtual kernels::Status Step(StepReport* report, StepDump* dump) = 0;  // dump may be null
  // Over the first config.evaluation_tokens target tokens of the validation text (0: all of them),
  // each counted once. kFailedPrecondition: no validation text; kNonFinite: the loss is not finite.
  virtual kernels::Result<Evaluation> Evaluate() = 0;
  virtual bool can_evaluate() const = 0;

  virtual int64_t steps_done() const = 0;
  virtual int64_t parameter_count() const = 0;
  virtual std::vector<NamedTensor> parameters() const = 0;
  virtual std::vector<NamedTensor> gradients() const = 0;
  // Parameters by their names, optimizer state as "optimizer/<kind>/<name>". Each parameter is cut
  // into world_size contiguous slices, of which this is the rank's; of the optimizer's state this
  // is what the rank owns. An empty slice is left out.
  virtual Snapshot TakeSnapshot() const = 0;
  // `snapshot` holds the slices of all ranks that took part, in any order and of any world size.
  // kInvalidArgument names the tensor that is missing, unknown or of another shape; nothing is
  // changed then.
  virtual kernels::Status Restore(const Snapshot& snapshot) = 0;
  // Parameters only (init.from); "optimizer/..." tensors are passed over and the optimizer starts
  // anew. Errors as Restore's.
  virtual kernels::Status LoadParameters(const std::vector<SnapshotTensor>& tensors) = 0;
};

struct ModelPlan;  // model.h

// What the first of `ranks` ranks plans its model for. kInvalidArgument: a shape that cannot be.
kernels::Result<ModelPlan> ModelPlanOf(const TrainingConfig& config, int64_t ranks);

enum class TrainingEnd { kCompleted, kStopped, kAbandoned };

// Trains from trainer.steps_done() to config.steps: step, evaluate, checkpoint, obey the host. Ends
// with a durable checkpoint when completed or stopped. Errors: those of Step, and
// kResourceExhausted or kUnavailable when the last checkpoint could not be made durable.
kernels::Result<TrainingEnd> RunTraining(Trainer& trainer, const TrainingConfig& config,
                                         TrainingHost& host, Collective& collective);

}  // namespace sinkforge::trainer
