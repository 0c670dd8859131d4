// What a TrainingConfig must satisfy. Messages use the job file's keys.
#include "worker/trainer/core/config.h"

#include <cmath>
#include <string>

namespace sinkforge::trainer {

using kernels::Status;
using kernels::StatusCode;

namespace {

// Far above any model of this family; keeps products of two of these within 64 bits.
constexpr int64_t kDimensionMax = int64_t{1} << 24;
constexpr int64_t kLayersMax = 4096;

Status Invalid(const std::string& message) { return Status(StatusCode::kInvalidArgument, message); }

struct IntegerRange {
  const char* key;
  int64_t value;
  int64_t low;
  int64_t high;
};

Status CheckRange(const IntegerRange& range) {
  if (range.value >= range.low && range.value <= range.high) return Status();
  return Invalid(std::string(range.key) + " is " + std::to_string(range.value) +
                 "; it must be from " + std::to_string(range.low) + " to " +
                 std::to_string(range.high));
}

struct RealRange {
  const char* key;
  double value;
  double low;
  double high;
};

Status CheckRange(const RealRange& range) {
  if (range.value >= range.low && range.value <= range.high) return Status();
  return Invalid(std::string(range.key) + " is " + std::to_string(range.value) +
                 "; it must be from " + std::to_string(range.low) + " to " +
                 std::to_string(range.high));
}

template <typename Range>
Status CheckRanges(std::initializer_list<Range> ranges) {
  for (const Range& range : ranges) {
    if (Status status = CheckRange(range); !status.ok()) return status;
  }
  return Status();
}

// Near the largest float32: a rate beyond it would not be a number to the kernels.
constexpr double kRealMax = 1e38;

Status ValidateOptimizer(const OptimizerConfig& config) {
  return CheckRanges<RealRange>({
      {"optimizer.matrix_lr", config.matrix_lr, 0, kRealMax},
      {"optimizer.embedding_lr", config.embedding_lr, 0, kRealMax},
      {"optimizer.unembedding_lr", config.unembedding_lr, 0, kRealMax},
      {"optimizer.gate_lr", config.gate_lr, 0, kRealMax},
      {"optimizer.weight_decay", config.weight_decay, 0, kRealMax},
      {"optimizer.beta1", config.beta1, 0, std::nextafter(1.0, 0.0)},
      {"optimizer.beta2", config.beta2, 0, std::nextafter(1.0, 0.0)},
      {"optimizer.epsilon", config.epsilon, 1e-30, 1},
      {"optimizer.warmup", config.warmup, 0, 1},
      {"optimizer.warmdown", config.warmdown, 0, 1},
      {"train.gradient_clip", config.gradient_clip, 0, kRealMax},
  });
}

Status ValidateHeadBalance(const kernels::HeadBalanceConfig& config, int64_t heads) {
  if (Status status =
          CheckRange(RealRange{"head_balance.coefficient", config.coefficient, 0, kRealMax});
      !status.ok()) {
    return status;
  }
  if (config.shared_heads == 0) return Status();
  if (config.loss == kernels::BalanceLoss::kSwitch) {
    return Invalid("head_balance.shared_heads belongs to head_balance.loss cv; set it to 0");
  }
  if (config.shared_heads < 0 || config.shared_heads > heads - 2) {
    return Invalid("head_balance.shared_heads is " + std::to_string(config.shared_heads) +
                   "; it must be from 0 to model.heads - 2, so that two heads are left to balance");
  }
  return Status();
}

}  // namespace

Status ValidateModel(const ModelConfig& config) {
  if (Status status = CheckRanges<IntegerRange>({
          {"model.layers", config.layers, 1, kLayersMax},
          {"model.width", config.width, 1, kDimensionMax},
          {"model.heads", config.heads, 1, kDimensionMax},
          {"model.vocab_size", config.vocab_size, 1, kDimensionMax},
          {"model.mlp_width", config.mlp_width, 1, kDimensionMax},
      });
      !status.ok()) {
    return status;
  }
  const std::string width = "model.width " + std::to_string(config.width);
  const std::string heads = "model.heads " + std::to_string(config.heads);
  if (config.width % config.heads != 0) {
    return Invalid(width + " is not divisible by " + heads + "; choose a width that is");
  }
  if (config.head_dim() % 2 != 0) {
    return Invalid(width + " over " + heads + " gives heads of " +
                   std::to_string(config.head_dim()) +
                   " channels; RoPE turns pairs of them, so choose an even number");
  }
  if (config.attention == kernels::AttentionVariant::kSink &&
      config.head_norm == kernels::HeadNorm::kRms) {
    return Invalid(
        "model.attention sink with model.head_norm rms: the sink's gate scales a head's whole "
        "output, and the norm would cancel that scale; use attention gated (its gate comes after "
        "the norm) or head_norm none");
  }
  return CheckRanges<RealRange>({
      {"model.rope_base", config.rope_base, 1, kRealMax},
      {"model.logit_softcap", config.logit_softcap, 0, kRealMax},
      {"model.sink_init low", config.sink_init_low, -1e4, 1e4},
      {"model.sink_init high", config.sink_init_high, -1e4, 1e4},
      {"model.gate_init", config.gate_init, 0, 1e4},
  });
}

int64_t BatchAfter(const TrainingConfig& config, int64_t steps_done) {
  int64_t batch = steps_done;
  for (const int64_t skipped : config.skip_batches) batch += skipped < batch ? 1 : 0;
  return batch;
}

Status ValidateTraining(const TrainingConfig& config) {
  if (Status status = ValidateModel(config.model); !status.ok()) return status;
  if (Status status = ValidateHeadBalance(config.head_balance, config.model.heads); !status.ok()) {
    return status;
  }
  if (Status status = ValidateOptimizer(config.optimizer); !status.ok()) return status;
  constexpr int64_t kCountMax = int64_t{1} << 48;
  return CheckRanges<IntegerRange>({
      {"train.steps", config.steps, 0, kCountMax},
      {"data.sequence_length", config.sequence_length, 1, kDimensionMax},
      {"train.micro_batch", config.micro_batch_rows, 1, kDimensionMax},
      {"micro-steps of a step (train.batch_tokens)", config.micro_steps, 1, kDimensionMax},
      {"evaluation.every_steps", config.evaluate_every_steps, 0, kCountMax},
      {"evaluation.tokens", config.evaluation_tokens, 0, kCountMax},
      {"checkpoint.every_steps", config.checkpoint_every_steps, 0, kCountMax},
  });
}

}  // namespace sinkforge::trainer
