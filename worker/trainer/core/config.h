// TrainingConfig: everything the trainer's core needs to know of a job, in plain structs.
// job_config.cc fills it from a resolved JobSpec, whose field comments
// (proto/sinkforge/v1/job.proto) say what each means.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/head_balance.h"
#include "kernels/status.h"

namespace sinkforge::trainer {

// What stands between the matrices of a layer's MLP: max(x w_fc, 0)^2 w_proj, or with a third
// matrix (silu(x w_gate) o (x w_up)) w_proj.
enum class MlpKind { kReluSquared, kSwiGlu };

struct ModelConfig {
  int64_t layers = 4;
  int64_t width = 256;
  int64_t heads = 8;
  int64_t vocab_size = 256;
  MlpKind mlp = MlpKind::kReluSquared;
  int64_t mlp_width = 1024;
  double rope_base = 10000;
  double logit_softcap = 15;
  kernels::AttentionVariant attention = kernels::AttentionVariant::kVanilla;
  kernels::GateGranularity gate = kernels::GateGranularity::kHead;
  kernels::HeadNorm head_norm = kernels::HeadNorm::kNone;
  kernels::LseGradient lse_gradient = kernels::LseGradient::kExact;
  double sink_init_low = 0;
  double sink_init_high = 0;
  double gate_init = 0;
  int64_t head_dim() const { return width / heads; }
};

enum class OptimizerKind { kMuon, kAdamW };

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kMuon;
  double matrix_lr = 0.02;        // block matrices
  double embedding_lr = 0.2;      // before the width scaling
  double unembedding_lr = 0.004;  // before the width scaling
  double gate_lr = 0.02;          // sinks and gate weights
  bool scale_by_width =
      true;  // (width / 768)^-0.5 for the embeddings; false for AdamW with one learning_rate
  double weight_decay = 0;
  double beta1 = 0.8;
  double beta2 = 0.95;
  double epsilon = 1e-10;
  double warmup = 0;
  double warmdown = 0.2;
  double gradient_clip = 1.0;
};

// Which activations the backward computes anew instead of keeping them: none, everything of
// attention from its input's norm to its output, or all of a layer but its input. The bits of a run
// do not depend on it.
enum class Recompute { kNone, kAttention, kBlock };

struct TrainingConfig {
  ModelConfig model;
  kernels::HeadBalanceConfig head_balance;
  OptimizerConfig optimizer;
  int64_t steps = 0;
  int64_t sequence_length = 256;
  int64_t micro_batch_rows = 8;  // rows of the global micro-batch
  int64_t micro_steps = 1;       // per optimizer step
  Recompute recompute = Recompute::kNone;
  uint64_t seed = 1;
  double loss_spike = 0;              // times the average of the steps before; 0: nothing is one
  std::vector<int64_t> skip_batches;  // of the training order, from 0, ascending: passed over
  int64_t evaluate_every_steps = 0;   // 0: at the end only
  int64_t evaluation_tokens = 0;      // 0: all of the validation text
  int64_t checkpoint_every_steps = 0;
};

// The batch of the training order, from 0, that the step after `steps_done` steps begins at:
// skipped ones before it count, it may itself be one to skip.
int64_t BatchAfter(const TrainingConfig& config, int64_t steps_done);

// kInvalidArgument: names the job file's key and what it may be.
kernels::Status ValidateModel(const ModelConfig& config);
kernels::Status ValidateTraining(const TrainingConfig& config);

}  // namespace sinkforge::trainer
