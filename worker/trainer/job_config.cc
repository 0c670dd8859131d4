// One function per group of the job file.
#include "worker/trainer/job_config.h"

#include "proto/jobspec/micro_batch.h"

namespace sinkforge::trainer {
namespace {

kernels::AttentionVariant ToVariant(v1::AttentionVariant variant) {
  switch (variant) {
    case v1::ATTENTION_VARIANT_SINK:
      return kernels::AttentionVariant::kSink;
    case v1::ATTENTION_VARIANT_GATED:
      return kernels::AttentionVariant::kGated;
    default:
      return kernels::AttentionVariant::kVanilla;
  }
}

kernels::BalanceLoss ToLoss(v1::BalanceLoss loss) {
  switch (loss) {
    case v1::BALANCE_LOSS_CV:
      return kernels::BalanceLoss::kCv;
    case v1::BALANCE_LOSS_SWITCH:
      return kernels::BalanceLoss::kSwitch;
    default:
      return kernels::BalanceLoss::kNone;
  }
}

ModelConfig ToModel(const v1::ModelSpec& spec) {
  ModelConfig model;
  model.layers = spec.layers();
  model.width = spec.width();
  model.heads = spec.heads();
  model.vocab_size = spec.vocab_size();
  model.mlp = spec.mlp() == v1::MLP_SWIGLU ? MlpKind::kSwiGlu : MlpKind::kReluSquared;
  model.mlp_width = spec.mlp_width();
  model.rope_base = spec.rope_base();
  model.logit_softcap = spec.logit_softcap();
  model.attention = ToVariant(spec.attention());
  model.gate = spec.gate() == v1::GATE_GRANULARITY_ELEMENT ? kernels::GateGranularity::kElement
                                                           : kernels::GateGranularity::kHead;
  model.head_norm =
      spec.head_norm() == v1::HEAD_NORM_RMS ? kernels::HeadNorm::kRms : kernels::HeadNorm::kNone;
  model.lse_gradient = spec.lse_gradient() == v1::LSE_GRADIENT_DETACHED
                           ? kernels::LseGradient::kDetached
                           : kernels::LseGradient::kExact;
  model.sink_init_low = spec.sink_init().low();
  model.sink_init_high = spec.sink_init().high();
  model.gate_init = spec.gate_init();
  return model;
}

OptimizerConfig ToOptimizer(const v1::OptimizerSpec& spec, const v1::TrainSpec& train) {
  OptimizerConfig optimizer;
  const bool adamw = spec.kind() == v1::OPTIMIZER_KIND_ADAMW;
  optimizer.kind = adamw ? OptimizerKind::kAdamW : OptimizerKind::kMuon;
  optimizer.matrix_lr = spec.matrix_lr();
  optimizer.embedding_lr = spec.embedding_lr();
  optimizer.unembedding_lr = spec.unembedding_lr();
  optimizer.gate_lr = spec.gate_lr();
  // The scaling belongs to nanochat's groups; AdamW's rates are taken as they are written.
  optimizer.scale_by_width = !adamw;
  optimizer.weight_decay = spec.weight_decay();
  optimizer.beta1 = spec.beta1();
  optimizer.beta2 = spec.beta2();
  optimizer.epsilon = spec.epsilon();
  optimizer.warmup = spec.warmup();
  optimizer.warmdown = spec.warmdown();
  optimizer.gradient_clip = train.gradient_clip();
  return optimizer;
}

Recompute ToRecompute(v1::Recompute recompute) {
  switch (recompute) {
    case v1::RECOMPUTE_ATTENTION:
      return Recompute::kAttention;
    case v1::RECOMPUTE_BLOCK:
      return Recompute::kBlock;
    default:
      return Recompute::kNone;
  }
}

}  // namespace

TrainingConfig ToTrainingConfig(const v1::JobSpec& spec) {
  TrainingConfig config;
  config.model = ToModel(spec.model());
  config.head_balance.loss = ToLoss(spec.head_balance().loss());
  config.head_balance.coefficient = spec.head_balance().coefficient();
  config.head_balance.shared_heads = spec.head_balance().shared_heads();
  config.optimizer = ToOptimizer(spec.optimizer(), spec.train());
  config.steps = spec.train().steps();
  config.sequence_length = spec.data().sequence_length();
  const int64_t rows_of_step = spec.train().batch_tokens() / config.sequence_length;
  config.micro_batch_rows =
      jobspec::IsAutoMicroBatch(spec.train()) ? rows_of_step : spec.train().micro_batch();
  config.micro_steps = rows_of_step / config.micro_batch_rows;
  config.recompute = ToRecompute(spec.train().recompute());
  config.seed = spec.train().seed();
  config.loss_spike = spec.train().loss_spike();
  config.evaluate_every_steps = spec.evaluation().every_steps();
  config.evaluation_tokens = spec.evaluation().tokens();
  config.checkpoint_every_steps = spec.checkpoint().every_steps();
  return config;
}

}  // namespace sinkforge::trainer
