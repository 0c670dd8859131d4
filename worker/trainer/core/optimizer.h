// Optimizer: nanochat's groups and schedules (references.md) over the backend's AdamW and Muon.
//
//   role          kind muon                        kind adamw
//   matrix        Muon, matrix_lr                  AdamW, matrix_lr, weight_decay
//   embedding     AdamW, embedding_lr * s          the same
//   unembedding   AdamW, unembedding_lr * s        the same
//   gate          AdamW, gate_lr                   the same
//
// with s = (width / 768)^-0.5 where scale_by_width, else 1. Weight decay acts on the block matrices
// of kind adamw only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "kernels/tensor.h"
#include "worker/trainer/core/arena.h"
#include "worker/trainer/core/config.h"
#include "worker/trainer/core/parameters.h"
#include "worker/trainer/core/shard_plan.h"
#include "worker/trainer/core/share.h"

namespace sinkforge::trainer {

// Factor of every learning rate at `step` (from 1) of `steps`: rises linearly to 1 over the warmup
// share, falls linearly towards 0 over the warmdown share. 0 after the last step.
double LearningRateScale(const OptimizerConfig& config, int64_t step, int64_t steps);

// Muon's momentum at `step` (from 1): 0.85 to 0.95 over the first 300 steps.
double MuonMomentum(int64_t step);

// What clipping multiplies the gradient by: min(1, clip / (norm + 1e-6)); 1 where clip is 0.
double ClipScale(double gradient_norm, double clip);

struct OptimizerStep {
  int64_t step = 1;           // from 1
  double rate_scale = 1;      // LearningRateScale
  double gradient_scale = 1;  // ClipScale
};

// The part of one named tensor of the optimizer that this rank holds.
struct OptimizerState {
  std::string name;            // "optimizer/adam_m/<parameter>", "adam_v", "momentum"
  std::vector<int64_t> shape;  // of the whole tensor: the parameter's
  Share share;                 // elements of the flattened whole; may be none
  kernels::Tensor tensor;      // these; no data where there are none
};

// Keeps and updates what its rank owns by the plan (ZeRO-1). Owned by the trainer; the parameters
// and the backend must outlive it. Used by one thread.
class Optimizer {
 public:
  // kResourceExhausted.
  static kernels::Result<std::unique_ptr<Optimizer>> Create(const OptimizerConfig& config,
                                                            int64_t width,
                                                            const ParameterSet& parameters,
                                                            const ShardPlan& plan,
                                                            kernels::Backend* backend);
  // The same plan without memory: its arena's table is all that may be used.
  static std::unique_ptr<Optimizer> CreateUnallocated(const OptimizerConfig& config, int64_t width,
                                                      const ParameterSet& parameters,
                                                      const ShardPlan& plan,
                                                      kernels::Backend* backend);
  // Updates what is owned of the parameters [first, end) from its gradient.
  void Apply(const OptimizerStep& step, size_t first, size_t end);
  const std::vector<OptimizerState>& state() const { return state_; }
  const Arena& arena() const { return arena_; }

 private:
  enum class Rule { kAdamW, kMuon };
  struct Entry {
    Rule rule = Rule::kAdamW;
    double learning_rate = 0;
    double weight_decay = 0;
    Weight weight;           // what is owned of it; no data where nothing is
    kernels::Tensor first;   // m, or Muon's momentum buffer
    kernels::Tensor second;  // v; AdamW only
  };

  Optimizer(const OptimizerConfig& config, kernels::Backend* backend);
  Entry Describe(const Parameter& parameter, int64_t width, const Share& share) const;
  void AddState(const std::string& kind, const Parameter& parameter, const Share& share);

  OptimizerConfig config_;
  kernels::Backend* backend_;
  Arena arena_;
  std::vector<Entry> entries_;  // of each parameter
  // What one Apply asks of the backend; kept for their capacity.
  std::vector<kernels::AdamWArgs> adamw_;
  std::vector<kernels::MuonArgs> muon_;
  std::vector<OptimizerState> state_;
};

}  // namespace sinkforge::trainer
