// Trainer: one rank's optimizer steps. A step reads, runs forward and backward of every micro-step,
// sums each gradient on its owner while the last backward still runs, and only then, when
// everything is finite, changes any state: each rank updates what it owns, and the parameters are
// gathered. Every decision is taken on numbers that the collective made equal, so all ranks take
// the same.
#include "worker/trainer/core/trainer.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "worker/trainer/core/batch_reader.h"
#include "worker/trainer/core/model.h"
#include "worker/trainer/core/optimizer.h"
#include "worker/trainer/core/step_averages.h"
#include "worker/trainer/core/stopwatch.h"
#include "worker/trainer/core/tensor_snapshot.h"

namespace sinkforge::trainer {

using kernels::BalanceLoss;
using kernels::DType;
using kernels::Result;
using kernels::Status;
using kernels::StatusCode;
using kernels::Tensor;

namespace {

GateStatistics StatisticsFor(BalanceLoss loss) {
  return loss == BalanceLoss::kSwitch ? GateStatistics::kSumsAndArgmax : GateStatistics::kSums;
}

// What a loss is held against: an average over about twenty steps, once there were so many.
constexpr double kSmoothing = 0.05;
constexpr int64_t kSpikeWarmupSteps = 20;

ShardOptions ShardsOf(const TrainingConfig& config, const TrainerEnvironment& environment) {
  ShardOptions options;
  options.kind = config.optimizer.kind;
  options.rank = environment.collective->rank();
  options.world_size = environment.collective->world_size();
  options.bucket_bytes_min = environment.bucket_bytes_min;
  return options;
}

// Sends every bucket on its way as soon as the backward is done with it.
class BucketSender {
 public:
  BucketSender(const ShardPlan& plan, Collective* collective)
      : plan_(plan), collective_(collective) {}

  void SendFrom(size_t first_parameter) {
    for (; next_ < plan_.buckets().size(); ++next_) {
      const ShardPlan::Bucket& bucket = plan_.buckets()[next_];
      if (bucket.first_parameter < first_parameter) return;
      collective_->BeginReduceScatterSum(bucket.gradients, bucket.segments);
    }
  }

 private:
  const ShardPlan& plan_;
  Collective* collective_;
  size_t next_ = 0;
};

class CoreTrainer final : public Trainer {
 public:
  CoreTrainer(const TrainingConfig& config, const TrainerEnvironment& environment,
              std::unique_ptr<Model> model, std::unique_ptr<ShardPlan> plan,
              std::unique_ptr<Optimizer> optimizer);

  Status Step(StepReport* report, StepDump* dump) override;
  Result<Evaluation> Evaluate() override;
  bool can_evaluate() const override { return environment_.validation != nullptr; }
  int64_t steps_done() const override { return state_.step; }
  int64_t parameter_count() const override { return CountParameters(config_.model); }
  std::vector<NamedTensor> parameters() const override;
  std::vector<NamedTensor> gradients() const override;
  Snapshot TakeSnapshot() const override;
  Status Restore(const Snapshot& snapshot) override;
  Status LoadParameters(const std::vector<SnapshotTensor>& tensors) override;

 private:
  // Values that every micro-step sums over the ranks, in one message: [gate sums | argmax counts |
  // loss | how many ranks want a dump].
  struct Exchange {
    std::vector<double> values;
    size_t gates = 0;   // number of gate sums
    size_t counts = 0;  // number of argmax counts
    std::span<double> gate_sums() { return {values.data(), gates}; }
    std::span<double> argmax_counts() { return {values.data() + gates, counts}; }
    double& loss_sum() { return values[values.size() - 2]; }
    double& dumps() { return values.back(); }
  };

  Status MicroStep(int64_t micro_step, bool dump, double* data_seconds);
  // Waits for the gradients' sums and leaves the whole gradient's norm.
  Status SumGradients(double* norm);
  Status GatherGradients();
  Status Update(const OptimizerStep& update);
  Status CheckFinite(double value, const char* what) const;
  Status CheckSpike(double loss) const;
  // The first row of the next step: of the next batch that is not to be skipped.
  int64_t NextRow() const;
  void StartDump(StepDump* dump) const;
  void FinishDump(const StepReport& report, StepDump* dump) const;
  void FillReport(const OptimizerStep& update, double gradient_norm, StepReport* report) const;
  std::vector<TensorPart> StateParts() const;
  int64_t tokens_per_step() const {
    return config_.micro_steps * config_.micro_batch_rows * config_.sequence_length;
  }

  TrainingConfig config_;
  TrainerEnvironment environment_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ShardPlan> plan_;
  std::unique_ptr<Optimizer> optimizer_;
  BatchReader reader_;
  Exchange exchange_;
  kernels::HeadBalance balance_;
  StepAverages averages_;
  TrainerState state_;
  int64_t first_row_ = 0;  // of the step under way
  double last_loss_ = 0;
  double last_imbalance_ = 0;
};

CoreTrainer::CoreTrainer(const TrainingConfig& config, const TrainerEnvironment& environment,
                         std::unique_ptr<Model> model, std::unique_ptr<ShardPlan> plan,
                         std::unique_ptr<Optimizer> optimizer)
    : config_(config),
      environment_(environment),
      model_(std::move(model)),
      plan_(std::move(plan)),
      optimizer_(std::move(optimizer)),
      reader_({config.sequence_length, config.micro_batch_rows, environment.collective->rank(),
               environment.collective->world_size()}),
      averages_(config.model.layers, config.model.heads) {
  exchange_.gates = static_cast<size_t>(config.model.layers * config.model.heads);
  exchange_.counts = config.head_balance.loss == BalanceLoss::kSwitch ? exchange_.gates : 0;
  exchange_.values.resize(exchange_.gates + exchange_.counts + 2);
  state_.seed = config.seed;
}

Status CoreTrainer::CheckFinite(double value, const char* what) const {
  if (std::isfinite(value)) return Status();
  return Status(StatusCode::kNonFinite,
                "step " + std::to_string(state_.step + 1) + ": the " + what +
                    " is not finite; parameters and optimizer are as after step " +
                    std::to_string(state_.step) +
                    ". Lower the learning rates or lengthen the warmup");
}

Status CoreTrainer::CheckSpike(double loss) const {
  if (config_.loss_spike <= 0 || state_.smoothed_steps < kSpikeWarmupSteps ||
      loss <= config_.loss_spike * state_.smooth_loss) {
    return Status();
  }
  return Status(StatusCode::kDiverged,
                "step " + std::to_string(state_.step + 1) + ": the loss of " +
                    std::to_string(loss) + " is more than train.loss_spike (" +
                    std::to_string(config_.loss_spike) + ") times the average of " +
                    std::to_string(state_.smooth_loss) +
                    "; parameters and optimizer are as after step " + std::to_string(state_.step));
}

int64_t CoreTrainer::NextRow() const {
  const int64_t rows = config_.micro_steps * config_.micro_batch_rows;
  int64_t row = state_.rows_consumed;
  while (std::binary_search(config_.skip_batches.begin(), config_.skip_batches.end(), row / rows)) {
    row += rows;
  }
  return row;
}

Status CoreTrainer::Step(StepReport* report, StepDump* dump) {
  const Stopwatch stopwatch;
  report->data_seconds = 0;
  first_row_ = NextRow();
  if (dump != nullptr) StartDump(dump);
  model_->ZeroGradients();
  averages_.Reset();
  for (int64_t micro_step = 0; micro_step < config_.micro_steps; ++micro_step) {
    Status status = MicroStep(micro_step, dump != nullptr, &report->data_seconds);
    if (!status.ok()) return status;
  }
  double gradient_norm = 0;
  if (Status status = SumGradients(&gradient_norm); !status.ok()) return status;
  if (Status status = CheckFinite(gradient_norm, "gradient's norm"); !status.ok()) return status;

  OptimizerStep update;
  update.step = state_.step + 1;
  update.rate_scale = LearningRateScale(config_.optimizer, update.step, config_.steps);
  update.gradient_scale = ClipScale(gradient_norm, config_.optimizer.gradient_clip);
  FillReport(update, gradient_norm, report);
  if (Status status = CheckSpike(report->loss); !status.ok()) return status;
  if (exchange_.dumps() > 0) {
    if (Status status = GatherGradients(); !status.ok()) return status;
  }
  if (dump != nullptr) FinishDump(*report, dump);
  if (Status status = Update(update); !status.ok()) return status;
  model_->parameters().RefreshWorkingCopies();
  state_.step = update.step;
  state_.rows_consumed = first_row_ + config_.micro_steps * config_.micro_batch_rows;
  state_.tokens_total += tokens_per_step();
  last_loss_ = report->loss;
  last_imbalance_ = report->imbalance;
  state_.smooth_loss = state_.smoothed_steps == 0
                           ? report->loss
                           : (1 - kSmoothing) * state_.smooth_loss + kSmoothing * report->loss;
  ++state_.smoothed_steps;
  report->step_seconds = stopwatch.Seconds();
  report->tokens_per_second = static_cast<double>(tokens_per_step()) / report->step_seconds;
  return Status();
}

Status CoreTrainer::MicroStep(int64_t micro_step, bool dump, double* data_seconds) {
  const Stopwatch stopwatch;
  const int64_t rows = reader_.ReadShuffled(*environment_.train, state_.seed,
                                            first_row_ + micro_step * config_.micro_batch_rows);
  *data_seconds += stopwatch.Seconds();
  model_->LoadBatch(rows, reader_.inputs(), reader_.targets());
  model_->Forward();
  exchange_.loss_sum() =
      model_->Loss(LossMode::kValueAndGradient, 1.0 / static_cast<double>(tokens_per_step()));
  exchange_.dumps() = dump ? 1 : 0;
  model_->ReadGateStatistics(exchange_.gate_sums(), exchange_.argmax_counts());
  if (Status status = environment_.collective->AllReduceSum(std::span<double>(exchange_.values));
      !status.ok()) {
    return status;
  }
  if (Status status = CheckFinite(exchange_.loss_sum(), "loss"); !status.ok()) return status;

  const int64_t positions = config_.micro_batch_rows * config_.sequence_length;
  kernels::HeadBalanceInput input;
  input.layers = config_.model.layers;
  input.heads = config_.model.heads;
  input.positions = static_cast<double>(positions);
  input.gate_sums = exchange_.gate_sums();
  input.argmax_counts = exchange_.argmax_counts();
  kernels::ComputeHeadBalance(config_.head_balance, input, &balance_);
  if (Status status = CheckFinite(balance_.aux_loss, "head-balance loss"); !status.ok()) {
    return status;
  }
  averages_.Add(exchange_.loss_sum(), positions, balance_);
  // The auxiliary loss is the mean over the micro-steps.
  for (double& g : balance_.gradient) g /= static_cast<double>(config_.micro_steps);
  BucketSender sender(*plan_, environment_.collective);
  const bool last = micro_step + 1 == config_.micro_steps;
  OnGradientsComplete send;
  if (last) send = [&sender](size_t first_parameter) { sender.SendFrom(first_parameter); };
  model_->Backward(balance_.gradient, send);
  return Status();
}

Status CoreTrainer::SumGradients(double* norm) {
  Collective& collective = *environment_.collective;
  if (Status status = collective.Wait(); !status.ok()) return status;
  double sum = 0;
  for (const Tensor& owned : plan_->owned_gradients()) {
    sum += environment_.backend->SumOfSquares(owned);
  }
  if (Status status = collective.AllReduceSum(std::span<double>(&sum, 1)); !status.ok()) {
    return status;
  }
  *norm = std::sqrt(sum);
  return Status();
}

Status CoreTrainer::GatherGradients() {
  for (const ShardPlan::Bucket& bucket : plan_->buckets()) {
    environment_.collective->BeginAllGather(bucket.gradients, bucket.segments);
  }
  return environment_.collective->Wait();
}

// A bucket's parameters are on their way while the next one's are computed. A rank that is alone
// has none to send, and updates all at once: one of Muon's matrices does not fill a large device,
// which does many in one product.
Status CoreTrainer::Update(const OptimizerStep& update) {
  if (environment_.collective->world_size() == 1) {
    optimizer_->Apply(update, 0, model_->parameters().all().size());
    return Status();
  }
  for (const ShardPlan::Bucket& bucket : plan_->buckets()) {
    optimizer_->Apply(update, bucket.first_parameter, bucket.end_parameter);
    environment_.collective->BeginAllGather(bucket.values, bucket.segments);
  }
  return environment_.collective->Wait();
}

void CoreTrainer::FillReport(const OptimizerStep& update, double gradient_norm,
                             StepReport* report) const {
  averages_.Fill(report);
  report->step = update.step;
  report->learning_rate_scale = update.rate_scale;
  report->gradient_norm = gradient_norm;
  report->tokens_total = state_.tokens_total + tokens_per_step();
  report->checkpoint_stall_seconds = 0;
  report->validation_loss.reset();
  report->validation_bits_per_byte.reset();
}

void CoreTrainer::StartDump(StepDump* dump) const {
  *dump = {};
  dump->micro_steps = config_.micro_steps;
  dump->rows = config_.micro_batch_rows;
  dump->sequence = config_.sequence_length;
  const int64_t rows = dump->micro_steps * dump->rows;
  dump->inputs.resize(static_cast<size_t>(rows * dump->sequence));
  dump->targets.resize(dump->inputs.size());
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = environment_.train->ShuffledRow(state_.seed, first_row_ + i);
    environment_.train->ReadRow(row, dump->inputs.data() + i * dump->sequence,
                                dump->targets.data() + i * dump->sequence);
  }
  for (const NamedTensor& named : parameters()) {
    dump->parameters.push_back(CopyWhole(environment_.backend, named));
  }
}

void CoreTrainer::FinishDump(const StepReport& report, StepDump* dump) const {
  for (const NamedTensor& named : gradients()) {
    dump->gradients.push_back(CopyWhole(environment_.backend, named));
  }
  dump->importance = report.importance;
  dump->layer_cv = report.layer_cv;
  dump->base = report.loss;
  dump->aux = report.aux_loss;
  dump->imbalance = report.imbalance;
}

Result<Evaluation> CoreTrainer::Evaluate() {
  if (!can_evaluate()) {
    return Status(StatusCode::kFailedPrecondition,
                  "no validation text to evaluate on; name one in data.validation");
  }
  const Dataset& data = *environment_.validation;
  int64_t wanted = data.tokens() - 1;
  if (config_.evaluation_tokens > 0) wanted = std::min(wanted, config_.evaluation_tokens);
  const int64_t rows = (wanted + config_.sequence_length - 1) / config_.sequence_length;
  LossSums sums;
  for (int64_t first = 0; first < rows; first += config_.micro_batch_rows) {
    const int64_t batch = std::min(config_.micro_batch_rows, rows - first);
    const int64_t local = reader_.ReadInOrder(data, first, batch, wanted);
    if (local == 0) continue;
    model_->LoadBatch(local, reader_.inputs(), reader_.targets());
    model_->Forward();
    const auto positions = static_cast<size_t>(local * config_.sequence_length);
    sums.Add(data, {reader_.targets(), positions}, model_->Loss(LossMode::kValue, 0),
             [this](std::vector<double>* losses) { model_->ReadLosses(losses); });
  }
  double exchanged[] = {sums.nats, sums.bytes, sums.targets, sums.silent_nats};
  if (Status status = environment_.collective->AllReduceSum(std::span<double>(exchanged));
      !status.ok()) {
    return status;
  }
  const Evaluation evaluation =
      LossSums{exchanged[0], exchanged[1], exchanged[2], exchanged[3]}.Result();
  if (!std::isfinite(evaluation.loss)) {
    return Status(StatusCode::kNonFinite,
                  "step " + std::to_string(state_.step) +
                      ": the validation loss is not finite. Lower the learning rates or lengthen "
                      "the warmup");
  }
  return evaluation;
}

std::vector<NamedTensor> CoreTrainer::parameters() const {
  std::vector<NamedTensor> named;
  for (const Parameter& p : std::as_const(*model_).parameters().all()) {
    named.push_back({p.spec.name, p.weight.value});
  }
  return named;
}

std::vector<NamedTensor> CoreTrainer::gradients() const {
  std::vector<NamedTensor> named;
  for (const Parameter& p : std::as_const(*model_).parameters().all()) {
    named.push_back({p.spec.name, p.weight.gradient});
  }
  return named;
}

std::vector<TensorPart> CoreTrainer::StateParts() const {
  std::vector<TensorPart> parts;
  for (const NamedTensor& named : parameters()) parts.push_back(WholeOf(named));
  const DType dtype = environment_.backend->compute_dtype();
  for (const OptimizerState& state : optimizer_->state()) {
    parts.push_back({state.name, state.shape, dtype, state.share, state.tensor});
  }
  return parts;
}

Snapshot CoreTrainer::TakeSnapshot() const {
  Snapshot snapshot;
  snapshot.state = state_;
  snapshot.loss = last_loss_;
  snapshot.imbalance = last_imbalance_;
  const Collective& ranks = *environment_.collective;
  const size_t parameter_count = model_->parameters().all().size();
  const std::vector<TensorPart> parts = StateParts();
  for (size_t i = 0; i < parts.size(); ++i) {
    // Every rank has the parameters, so they are shared out; the optimizer's state is its owner's.
    const Share share = i < parameter_count
                            ? ShareOf(parts[i].share.size, ranks.rank(), ranks.world_size())
                            : parts[i].share;
    if (share.size == 0) continue;
    snapshot.tensors.push_back(CopyPart(environment_.backend, parts[i], share));
  }
  return snapshot;
}

Status CoreTrainer::Restore(const Snapshot& snapshot) {
  const TrainerState& state = snapshot.state;
  if (state.step < 0 || state.rows_consumed < 0 || state.tokens_total < 0) {
    return Status(StatusCode::kInvalidArgument,
                  "the snapshot's position in the data is negative; use another checkpoint");
  }
  if (Status status = AssembleTensors(StateParts(), snapshot.tensors, ForeignTensors::kRefuse,
                                      environment_.backend);
      !status.ok()) {
    return status;
  }
  model_->parameters().RefreshWorkingCopies();
  state_ = state;
  last_loss_ = snapshot.loss;
  last_imbalance_ = snapshot.imbalance;
  return Status();
}

Status CoreTrainer::LoadParameters(const std::vector<SnapshotTensor>& tensors) {
  std::vector<TensorPart> wanted;
  for (const NamedTensor& named : parameters()) wanted.push_back(WholeOf(named));
  Status status =
      AssembleTensors(wanted, tensors, ForeignTensors::kPassOptimizer, environment_.backend);
  if (status.ok()) model_->parameters().RefreshWorkingCopies();
  return status;
}

}  // namespace

Result<ModelPlan> ModelPlanOf(const TrainingConfig& config, int64_t ranks) {
  if (Status status = ValidateTraining(config); !status.ok()) return status;
  if (config.micro_batch_rows < ranks) {
    return Status(StatusCode::kInvalidArgument,
                  "train.micro_batch of " + std::to_string(config.micro_batch_rows) +
                      " rows is less than one for each of " + std::to_string(ranks) +
                      " ranks; raise train.micro_batch or lower resources.ranks");
  }
  ModelPlan plan;
  plan.rows_max = ShareOf(config.micro_batch_rows, 0, ranks).size;
  plan.sequence = config.sequence_length;
  plan.statistics = StatisticsFor(config.head_balance.loss);
  plan.recompute = config.recompute;
  return plan;
}

Result<std::unique_ptr<Trainer>> Trainer::Create(const TrainingConfig& config,
                                                 const TrainerEnvironment& environment) {
  SINKFORGE_CHECK(environment.backend != nullptr && environment.collective != nullptr &&
                  environment.train != nullptr);
  const Result<ModelPlan> plan = ModelPlanOf(config, environment.collective->world_size());
  if (!plan.ok()) return plan.status();
  Result<std::unique_ptr<Model>> model =
      Model::Create(config.model, plan.value(), environment.backend);
  if (!model.ok()) return model.status();
  model.value()->parameters().Initialize(config.seed);
  const ParameterSet& parameters = model.value()->parameters();
  auto shards = std::make_unique<ShardPlan>(parameters, ShardsOf(config, environment));
  Result<std::unique_ptr<Optimizer>> optimizer = Optimizer::Create(
      config.optimizer, config.model.width, parameters, *shards, environment.backend);
  if (!optimizer.ok()) return optimizer.status();
  return std::unique_ptr<Trainer>(
      std::make_unique<CoreTrainer>(config, environment, std::move(model).value(),
                                    std::move(shards), std::move(optimizer).value()));
}

}  // namespace sinkforge::trainer
