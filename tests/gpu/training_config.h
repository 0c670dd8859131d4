// The training of the programs of this folder, from their arguments.
#pragma once

#include "tests/gpu/arguments.h"
#include "worker/trainer/core/config.h"

namespace sinkforge::gpu {

// nanochat's family: 64 channels of width a layer. Takes the arguments attention, coefficient,
// depth, gate_init, head_dim, micro_steps, rows, sequence, sink_init_high, steps and vocab.
inline trainer::TrainingConfig TrainingConfigOf(const Arguments& arguments) {
  trainer::TrainingConfig config;
  const int64_t depth = arguments.Integer("depth");
  config.model.layers = depth;
  config.model.width = 64 * depth;
  config.model.heads = config.model.width / arguments.Integer("head_dim");
  config.model.mlp_width = 4 * config.model.width;
  config.model.vocab_size = arguments.Integer("vocab");
  const std::string& attention = arguments.Text("attention");
  if (attention == "sink") config.model.attention = kernels::AttentionVariant::kSink;
  if (attention == "gated") config.model.attention = kernels::AttentionVariant::kGated;
  config.model.gate_init = arguments.Real("gate_init");
  config.model.sink_init_high = arguments.Real("sink_init_high");
  config.head_balance.coefficient = arguments.Real("coefficient");
  if (config.head_balance.coefficient > 0) config.head_balance.loss = kernels::BalanceLoss::kCv;
  config.steps = arguments.Integer("steps");
  config.sequence_length = arguments.Integer("sequence");
  config.micro_batch_rows = arguments.Integer("rows");
  config.micro_steps = arguments.Integer("micro_steps");
  return config;
}

}  // namespace sinkforge::gpu
