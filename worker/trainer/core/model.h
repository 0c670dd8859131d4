// Model: forward and backward of the nanochat family over a planned arena, written once for every
// backend and compute type.
//
//   x = RMSNorm(wte[token])
//   each layer:  x += c_proj attention(RMSNorm(x));  x += mlp_proj relu(mlp_fc RMSNorm(x))^2,
//                or with y = RMSNorm(x):  x += mlp_proj (silu(mlp_gate y) o mlp_up y)
//   loss = cross entropy of softcap(lm_head RMSNorm(x))
//
// Queries and keys are rotated (RoPE), then normalised without parameters; there are no biases.
// Every norm's epsilon is float32's, also in float64, so that the float64 model is the oracle of
// the same function.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "kernels/tensor.h"
#include "worker/trainer/core/arena.h"
#include "worker/trainer/core/config.h"
#include "worker/trainer/core/parameters.h"

namespace sinkforge::trainer {

// What is counted of the gates: the sums of Eq. 5, and for the Switch-style loss the argmax too.
enum class GateStatistics { kSums, kSumsAndArgmax };
enum class LossMode { kValue, kValueAndGradient };

// Called while a backward runs: the gradients of all parameters from `first_parameter`
// (ParameterSet::all) on are complete.
using OnGradientsComplete = std::function<void(size_t first_parameter)>;

// Of every norm.
inline constexpr double kNormEpsilon = std::numeric_limits<float>::epsilon();

struct ModelPlan {
  int64_t rows_max = 0;  // of one batch on this rank
  int64_t sequence = 0;
  GateStatistics statistics = GateStatistics::kSums;
  Recompute recompute = Recompute::kNone;
  Gradients gradients = Gradients::kAllocated;  // kNone: nothing but forward and loss is called
};

// One batch: every row has `sequence` positions.
struct BatchShape {
  int64_t rows = 0;
  int64_t sequence = 0;
  int64_t positions() const { return rows * sequence; }
};

kernels::AttentionConfig AttentionConfigOf(const ModelConfig& config);

// Owned by the trainer; the backend must outlive it. One batch goes LoadBatch, Forward, Loss, and
// for training Backward; gradients are added to what the gradient arena holds. Used by one thread.
class Model {
 public:
  // The config must be valid (ValidateModel). Parameters are zero. kResourceExhausted.
  static kernels::Result<std::unique_ptr<Model>> Create(const ModelConfig& config,
                                                        const ModelPlan& plan,
                                                        kernels::Backend* backend);
  // The same plan without memory: its arenas' tables are all that may be used.
  static std::unique_ptr<Model> CreateUnallocated(const ModelConfig& config, const ModelPlan& plan,
                                                  kernels::Backend* backend);

  // inputs, targets: [rows, sequence] in host memory, 1 <= rows <= rows_max. A target of -1 does
  // not count.
  void LoadBatch(int64_t rows, const int32_t* inputs, const int32_t* targets);
  // Of another shape than the plan's rows: rows * sequence positions are at most the plan's.
  void LoadBatch(const BatchShape& shape, const int32_t* inputs, const int32_t* targets);
  // Also leaves the batch's gate statistics.
  void Forward();
  // [layers, heads] each, of the last Forward. `argmax_counts` is empty for kSums.
  void ReadGateStatistics(std::span<double> gate_sums, std::span<double> argmax_counts) const;
  // The sum of the targets' losses in nats. Gradients are those of loss_scale times that sum.
  double Loss(LossMode mode, double loss_scale);
  // Every target's loss in nats, of the last Loss; resized to the batch's positions.
  void ReadLosses(std::vector<double>* losses) const;
  // `importance_gradient` [layers, heads]: g_h of method.md section 3. After
  // Loss(kValueAndGradient). `on_complete` may be null.
  void Backward(std::span<const double> importance_gradient,
                const OnGradientsComplete& on_complete);
  void ZeroGradients();

  ParameterSet& parameters() { return *parameters_; }
  const ParameterSet& parameters() const { return *parameters_; }
  const ModelConfig& config() const { return config_; }
  // The plan of everything between tokens and loss, by name.
  const Arena& activations() const { return arena_; }

 private:
  // What the plan recomputes is one set of tensors that all layers share: after the forward it
  // holds the last layer's.
  struct LayerActivations {
    kernels::Tensor input;  // the residual stream before the layer; kBlock only
    kernels::Tensor attn_norm, attn_rstd;
    kernels::Tensor q, k, v, q_rstd, k_rstd, gate_logits;
    kernels::Tensor attn_out, lse, gate, attn_normed, head_rstd;
    kernels::Tensor mlp_norm, mlp_rstd;
    kernels::Tensor act;               // kReluSquared
    kernels::Tensor mlp_gate, mlp_up;  // kSwiGlu, whose act the backward computes anew
    kernels::Tensor gate_sums, argmax_counts, importance_gradient;
  };
  // One set for all layers: each layer's backward is done with it before the next begins.
  struct Scratch {
    kernels::Tensor tokens, targets, losses;
    kernels::Tensor x, x_rstd, dx, d_norm, d_gate_logits;
    // The first two lie where the others do: one is used at a time. act is SwiGLU's, or its
    // gradient.
    kernels::Tensor d_fc, act, d_q, d_k, d_v;
    kernels::Tensor gate_sums, argmax_counts, importance_gradient, recomputed_sums;
  };
  using Wanted = std::vector<std::pair<kernels::Tensor*, size_t>>;

  Model(const ModelConfig& config, const ModelPlan& plan, kernels::Backend* backend);
  void Plan();
  void PlanScratch();
  void PlanLayer(int64_t layer);
  void BindTensors();
  kernels::AttentionShape Shape() const;
  // What Replay is given; each does the same for one shape of batch.
  enum class Piece : int64_t { kForward, kLayerBackward, kEmbeddingBackward };
  kernels::WorkKey KeyOf(Piece piece, size_t layer) const;
  void ForwardAll();
  void ForwardAttention(size_t layer);
  void Attend(size_t layer, const kernels::Tensor& gate_sums);
  void ForwardMlp(size_t layer);
  void ExpandMlp(size_t layer);
  void BackwardLayer(size_t layer);
  void RecomputeLayer(size_t layer);
  void BackwardMlp(size_t layer);
  void BackwardReluSquared(size_t layer);
  void BackwardSwiGlu(size_t layer);
  void BackwardAttention(size_t layer);
  void BackwardProjections(size_t layer);
  void BackwardEmbedding();
  kernels::Tensor Positions(const kernels::Tensor& full) const;  // the batch's B*T positions
  // The batch's part of a [rows_max, heads, sequence] tensor: [B, heads, T].
  kernels::Tensor Rows(const kernels::Tensor& full) const;

  ModelConfig config_;
  ModelPlan plan_;
  kernels::Backend* backend_;
  kernels::AttentionConfig attention_;
  std::unique_ptr<ParameterSet> parameters_;
  Arena arena_;
  Wanted wanted_;     // which planned tensor goes where
  size_t union_ = 0;  // of d_fc or act with d_q, d_k and d_v
  std::vector<LayerActivations> layers_;
  Scratch scratch_;
  BatchShape batch_;
};

}  // namespace sinkforge::trainer
