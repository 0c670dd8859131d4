// Model: the backward, layer by layer from the last. `dx` is the gradient of the residual stream
// throughout; every branch adds its own part to it.
#include "worker/trainer/core/model.h"

namespace sinkforge::trainer {

using kernels::Tensor;
using kernels::WriteMode;

void Model::Backward(std::span<const double> importance_gradient,
                     const OnGradientsComplete& on_complete) {
  SINKFORGE_CHECK(static_cast<int64_t>(importance_gradient.size()) ==
                  config_.layers * config_.heads);
  backend_->CopyFromHost(scratch_.importance_gradient, importance_gradient.data());
  backend_->RmsNormBackward(Positions(scratch_.d_norm), Positions(scratch_.x),
                            Positions(scratch_.x_rstd), Positions(scratch_.dx), WriteMode::kAssign);
  const auto tell = [&](size_t first_parameter) {
    if (on_complete) on_complete(first_parameter);
  };
  tell(parameters_->all().size() - 1);  // lm_head's came with the loss
  for (size_t layer = layers_.size(); layer-- > 0;) {
    // A layer at a time, so that its gradients are on their way while the next layer is done.
    backend_->Replay(KeyOf(Piece::kLayerBackward, layer), [this, layer] { BackwardLayer(layer); });
    tell(parameters_->layers()[layer].first_parameter);
  }
  backend_->Replay(KeyOf(Piece::kEmbeddingBackward, 0), [this] { BackwardEmbedding(); });
  tell(0);
}

void Model::BackwardLayer(size_t layer) {
  // The shared tensors still hold the last layer's.
  if (layer + 1 < layers_.size()) RecomputeLayer(layer);
  BackwardMlp(layer);
  BackwardAttention(layer);
  BackwardProjections(layer);
}

// The same ops on the same inputs as in the forward, so that the bits are the same.
void Model::RecomputeLayer(size_t layer) {
  if (plan_.recompute == Recompute::kNone) return;
  const LayerActivations& a = layers_[layer];
  const LayerWeights& w = parameters_->layers()[layer];
  if (plan_.recompute == Recompute::kBlock) {
    backend_->RmsNorm(Positions(a.input), kNormEpsilon, Positions(a.attn_norm),
                      Positions(a.attn_rstd));
  }
  Attend(layer, scratch_.recomputed_sums);
  if (plan_.recompute != Recompute::kBlock) return;
  // The layer's input is not needed again: the residual stream grows in its place.
  const Tensor x = Positions(a.input);
  backend_->Linear(Positions(a.attn_out), w.c_proj.working, x, WriteMode::kAccumulate);
  backend_->RmsNorm(x, kNormEpsilon, Positions(a.mlp_norm), Positions(a.mlp_rstd));
  ExpandMlp(layer);
}

void Model::BackwardMlp(size_t layer) {
  if (config_.mlp == MlpKind::kSwiGlu) {
    BackwardSwiGlu(layer);
  } else {
    BackwardReluSquared(layer);
  }
  const LayerActivations& a = layers_[layer];
  backend_->RmsNormBackward(Positions(scratch_.d_norm), Positions(a.mlp_norm),
                            Positions(a.mlp_rstd), Positions(scratch_.dx), WriteMode::kAccumulate);
}

// Both leave the gradient of the MLP's norm in d_norm.
void Model::BackwardReluSquared(size_t layer) {
  const LayerActivations& a = layers_[layer];
  const LayerWeights& w = parameters_->layers()[layer];
  const Tensor dx = Positions(scratch_.dx);
  const Tensor act = Positions(a.act);
  const Tensor d_fc = Positions(scratch_.d_fc);
  backend_->LinearBackwardWeight(dx, act, w.mlp_proj.gradient);
  backend_->LinearBackwardInput(dx, w.mlp_proj.working, d_fc, WriteMode::kAssign);
  backend_->ReluSquaredBackward(d_fc, act, d_fc);
  backend_->LinearBackwardWeight(d_fc, Positions(a.mlp_norm), w.mlp_fc.gradient);
  backend_->LinearBackwardInput(d_fc, w.mlp_fc.working, Positions(scratch_.d_norm),
                                WriteMode::kAssign);
}

void Model::BackwardSwiGlu(size_t layer) {
  const LayerActivations& a = layers_[layer];
  const LayerWeights& w = parameters_->layers()[layer];
  const Tensor dx = Positions(scratch_.dx);
  const Tensor norm = Positions(a.mlp_norm);
  const Tensor d_norm = Positions(scratch_.d_norm);
  const Tensor act = Positions(scratch_.act);  // first its gradient
  backend_->LinearBackwardInput(dx, w.mlp_proj.working, act, WriteMode::kAssign);
  // Nothing reads the layer's gate and up again: their gradients take their places.
  const Tensor gate = Positions(a.mlp_gate);
  const Tensor up = Positions(a.mlp_up);
  backend_->SwiGluBackward({act, gate, up, gate, up, act});
  backend_->LinearBackwardWeight(dx, act, w.mlp_proj.gradient);
  backend_->LinearBackwardWeight(gate, norm, w.mlp_gate.gradient);
  backend_->LinearBackwardInput(gate, w.mlp_gate.working, d_norm, WriteMode::kAssign);
  backend_->LinearBackwardWeight(up, norm, w.mlp_up.gradient);
  backend_->LinearBackwardInput(up, w.mlp_up.working, d_norm, WriteMode::kAccumulate);
}

// From the residual stream to the gradients of q, k, v and the gate's logits.
void Model::BackwardAttention(size_t layer) {
  const LayerActivations& a = layers_[layer];
  const LayerWeights& w = parameters_->layers()[layer];
  const Tensor dx = Positions(scratch_.dx);
  const Tensor d_out = Positions(scratch_.x);  // free from the first layer's backward on
  backend_->LinearBackwardWeight(dx, Positions(a.attn_out), w.c_proj.gradient);
  backend_->LinearBackwardInput(dx, w.c_proj.working, d_out, WriteMode::kAssign);
  kernels::AttentionBackwardArgs args;
  args.q = Positions(a.q);
  args.k = Positions(a.k);
  args.v = Positions(a.v);
  args.sinks = w.sinks.value;
  args.gate_logits = Positions(a.gate_logits);
  args.out = Positions(a.attn_out);
  args.lse = Rows(a.lse);
  args.gate = Rows(a.gate);
  args.normed = Positions(a.attn_normed);
  args.head_rstd = Rows(a.head_rstd);
  args.d_out = d_out;
  args.importance_gradient = a.importance_gradient;
  args.d_q = Positions(scratch_.d_q);
  args.d_k = Positions(scratch_.d_k);
  args.d_v = Positions(scratch_.d_v);
  args.d_sinks = w.sinks.gradient;
  args.d_gate_logits = Positions(scratch_.d_gate_logits);
  backend_->AttentionBackward(attention_, Shape(), args);
  backend_->RopeNormBackward(args.d_q, args.q, Positions(a.q_rstd), batch_.sequence, config_.heads,
                             config_.rope_base);
  backend_->RopeNormBackward(args.d_k, args.k, Positions(a.k_rstd), batch_.sequence, config_.heads,
                             config_.rope_base);
}

// From q, k, v and the gate's logits through their projections and the norm before them.
void Model::BackwardProjections(size_t layer) {
  const LayerActivations& a = layers_[layer];
  const LayerWeights& w = parameters_->layers()[layer];
  const Tensor norm = Positions(a.attn_norm);
  const Tensor d_norm = Positions(scratch_.d_norm);
  const auto through = [&](const Tensor& d_y, const Weight& weight, WriteMode mode) {
    backend_->LinearBackwardWeight(d_y, norm, weight.gradient);
    backend_->LinearBackwardInput(d_y, weight.working, d_norm, mode);
  };
  through(Positions(scratch_.d_q), w.c_q, WriteMode::kAssign);
  through(Positions(scratch_.d_k), w.c_k, WriteMode::kAccumulate);
  through(Positions(scratch_.d_v), w.c_v, WriteMode::kAccumulate);
  if (!scratch_.d_gate_logits.empty()) {
    through(Positions(scratch_.d_gate_logits), w.c_gate, WriteMode::kAccumulate);
  }
  backend_->RmsNormBackward(d_norm, norm, Positions(a.attn_rstd), Positions(scratch_.dx),
                            WriteMode::kAccumulate);
}

void Model::BackwardEmbedding() {
  // The normalised embedding was the start of the residual stream and has been overwritten; doing
  // it again costs less than keeping it.
  const Tensor tokens = Positions(scratch_.tokens);
  const Tensor x = Positions(scratch_.x);
  const Tensor d_norm = Positions(scratch_.d_norm);
  backend_->Embedding(tokens, parameters_->wte().working, x);
  backend_->RmsNorm(x, kNormEpsilon, x, Positions(scratch_.x_rstd));
  backend_->RmsNormBackward(Positions(scratch_.dx), x, Positions(scratch_.x_rstd), d_norm,
                            WriteMode::kAssign);
  backend_->EmbeddingBackward(tokens, d_norm, parameters_->wte().gradient);
}

}  // namespace sinkforge::trainer
