// Backend: the one contract of every op, with three implementations: ref/ (readable oracle, float32
// and float64), cpu/ (fast float32) and cuda/. An op exists when its ref implementation and its
// conformance case exist.
//
// Shapes: N = rows = batch * sequence, C = width, H = heads, d = head_dim, V = vocabulary, T =
// sequence, B = batch. Every tensor argument is contiguous; token and target tensors are kI32. What
// is as wide as the model (activations and their gradients, the weights that products read) has the
// backend's activation dtype; parameters, their gradients, the optimizer's state and statistics
// (rstd, lse, gate, losses, sinks) have its compute dtype. Shapes are checked with SINKFORGE_CHECK:
// a wrong shape is a bug, not an input. An op allocates only in its first calls (workspace that
// grows to the largest shape seen); a steady step allocates nothing. Ops are deterministic: same
// input, same backend, same thread count, same bits. A backend is used by one thread at a time.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"

namespace sinkforge::kernels {

// What a gradient (or an output with a residual) does with what its buffer holds.
enum class WriteMode { kAssign, kAccumulate };

enum class AttentionVariant { kVanilla, kSink, kGated };
enum class GateGranularity { kHead, kElement };
enum class HeadNorm { kNone, kRms };
enum class LseGradient { kExact, kDetached };

// method.md section 1. kSink with kRms is refused by the model: the norm would cancel the gate.
struct AttentionConfig {
  AttentionVariant variant = AttentionVariant::kVanilla;
  GateGranularity gate = GateGranularity::kHead;
  HeadNorm head_norm = HeadNorm::kNone;
  LseGradient lse_gradient = LseGradient::kExact;
  float epsilon = 1.1920929e-7F;  // of the head norm
};

struct AttentionShape {
  int64_t batch = 0;
  int64_t sequence = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; query head h reads kv head h / (heads / kv_heads)
  int64_t head_dim = 0;
};

// Causal attention; logits scaled by 1/sqrt(d). Never holds a T x T matrix.
struct AttentionForwardArgs {
  Tensor q;            // [N, H*d]
  Tensor k;            // [N, Hkv*d]
  Tensor v;            // [N, Hkv*d]
  Tensor sinks;        // [H], kSink only
  Tensor gate_logits;  // kGated only: [N, H] (kHead) or [N, H*d] (kElement), before the sigmoid
  Tensor out;          // [N, H*d]: what goes into the output projection
  Tensor lse;          // [B, H, T]: L, or L' for kSink
  Tensor gate;         // [B, H, T]: G of Eq. 5; for kElement the mean over the head's channels
  Tensor normed;  // [N, H*d], kRms with kGated only: U after the norm (without a gate `out` is it)
  Tensor head_rstd;       // [B, H, T], kRms only: 1 / RMS(U)
  Tensor importance_sum;  // [H], kF64: the sum of G over all (i, t) is ADDED here, in a fixed order
};

// `importance_gradient` is g_h = dL_aux/dG of method.md section 3, one number per head.
struct AttentionBackwardArgs {
  Tensor q, k, v, sinks, gate_logits;
  Tensor out, lse, gate, normed, head_rstd;  // as the forward left them
  Tensor d_out;                              // [N, H*d]
  Tensor importance_gradient;                // [H], kF64
  Tensor d_q, d_k, d_v;                      // assigned
  Tensor d_sinks;                            // [H], accumulated; kSink only
  Tensor d_gate_logits;                      // assigned; kGated only
};

// s = sigmoid(gate): d_up = d_act gate s, d_gate = d_act up (s + gate s (1 - s)), and the forward's
// act again, to the bit: so a layer keeps gate and up alone. All tensors have the same elements. An
// output may alias the input that it is about: d_gate gate, d_up up, act d_act.
struct SwiGluBackwardArgs {
  Tensor d_act, gate, up;
  Tensor d_gate, d_up, act;  // assigned
};

// Logits l = x w^T, softcapped to cap * tanh(l / cap) where cap > 0; loss_n = LSE(l_n) -
// l_n[target_n] in nats. Never holds more than a block of rows of logits. A target of -1 has loss 0
// and no gradient.
struct CrossEntropyArgs {
  Tensor x;        // [N, C]
  Tensor w;        // [V, C]
  Tensor targets;  // [N], kI32
  double softcap = 15.0;
  double loss_scale = 0.0;  // the gradient is of loss_scale * sum_n loss_n
  Tensor losses;            // [N], assigned
  Tensor d_x;               // [N, C], assigned; empty: no gradients wanted
  Tensor d_w;               // [V, C], accumulated; empty exactly when d_x is
};

struct AdamWArgs {
  Tensor parameter, gradient, m, v;  // same shape
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-10;
  double weight_decay = 0;    // decoupled: p -= lr * weight_decay * p
  int64_t step = 1;           // from 1, for the bias correction
  double gradient_scale = 1;  // of clipping
};

// references.md, nanochat: buf = lerp(buf, g, 1 - momentum); g = lerp(g, buf, momentum); X =
// NewtonSchulz5(g); p -= lr * sqrt(max(1, rows/cols)) * X. Newton-Schulz runs in the backend's
// compute dtype.
struct MuonArgs {
  Tensor parameter, gradient, momentum_buffer;  // [rows, cols]
  double learning_rate = 0;
  double momentum = 0.95;
  double gradient_scale = 1;
};

// A training step as far as a backend's own memory depends on it.
struct StepShape {
  AttentionConfig attention;
  AttentionShape shape;
  int64_t vocabulary = 0;
  int64_t channels = 0;           // of the widest activation
  int64_t muon_elements = 0;      // of the largest matrix that Muon updates; 0: none
  int64_t muon_elements_all = 0;  // of all of them
  int64_t muon_side = 0;          // the longest shorter side of one
};

struct Workspace {
  std::string name;
  int64_t bytes = 0;
};

// Names work that does the same whenever it is done: whose it is, and which of the owner's work,
// with every number that changes what its ops are given (a layer, the rows of a batch).
struct WorkKey {
  const void* owner = nullptr;
  std::array<int64_t, 3> what{};
  auto operator<=>(const WorkKey&) const = default;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;  // "ref", "cpu", "cuda"
  virtual DType compute_dtype() const = 0;
  // kBF16 in mixed precision, where compute_dtype() is kF32.
  virtual DType activation_dtype() const { return compute_dtype(); }

  // Memory. Allocate returns zeroed memory or nullptr.
  virtual void* Allocate(int64_t bytes) = 0;
  virtual void Free(void* memory) = 0;
  virtual void CopyFromHost(const Tensor& to, const void* from) = 0;
  virtual void CopyToHost(void* to, const Tensor& from) = 0;
  virtual void Zero(const Tensor& x) = 0;
  // to = from, element by element; from kF32 to kBF16 it is rounded to the nearest, ties to even.
  virtual void Copy(const Tensor& from, const Tensor& to) = 0;
  // What the device that Allocate takes from has left; absent where that is the host's memory.
  virtual std::optional<int64_t> FreeDeviceBytes() const { return std::nullopt; }
  // What the backend itself holds after a step of this shape, beside the tensors that it is given;
  // where that depends on more than the shape, the most that it can be.
  virtual std::vector<Workspace> PlanWorkspace(const StepShape& /*shape*/) const { return {}; }
  // Does `work`: ops on the tensors and with the numbers that they had when the key was last used,
  // without copies from or to the host, Sum and SumOfSquares. A backend may keep what the ops came
  // to and do that without calling `work`, until any memory of it is freed.
  virtual void Replay(const WorkKey& /*key*/, const std::function<void()>& work) { work(); }

  // out[n] = table[tokens[n]].
  virtual void Embedding(const Tensor& tokens, const Tensor& table, const Tensor& out) = 0;
  // d_table[tokens[n]] += d_out[n], in the order of n.
  virtual void EmbeddingBackward(const Tensor& tokens, const Tensor& d_out,
                                 const Tensor& d_table) = 0;

  // Parameterless: rstd_n = 1/sqrt(mean(x_n^2) + eps), y = x rstd. x, y [N, C]; rstd [N]. y may
  // alias x.
  virtual void RmsNorm(const Tensor& x, double epsilon, const Tensor& y, const Tensor& rstd) = 0;
  // d_x (=|+=) rstd (d_y - y mean(d_y o y)).
  virtual void RmsNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd,
                               const Tensor& d_x, WriteMode mode) = 0;

  // y (=|+=) x w^T; x [N, I], w [O, I], y [N, O].
  virtual void Linear(const Tensor& x, const Tensor& w, const Tensor& y, WriteMode mode) = 0;
  // d_x (=|+=) d_y w.
  virtual void LinearBackwardInput(const Tensor& d_y, const Tensor& w, const Tensor& d_x,
                                   WriteMode mode) = 0;
  // d_w += d_y^T x.
  virtual void LinearBackwardWeight(const Tensor& d_y, const Tensor& x, const Tensor& d_w) = 0;

  // In place on x [B*T, heads*d]: RoPE (halves split, y1 = x1 c + x2 s, y2 = -x1 s + x2 c, angle t
  // * base^(-2i/d)), then RMSNorm of each head; rstd [B*T, heads] is kept for the backward.
  virtual void RopeNorm(const Tensor& x, int64_t sequence, int64_t heads, double rope_base,
                        double epsilon, const Tensor& rstd) = 0;
  // In place on d_y [B*T, heads*d] given the forward's output y.
  virtual void RopeNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd,
                                int64_t sequence, int64_t heads, double rope_base) = 0;

  virtual void AttentionForward(const AttentionConfig& config, const AttentionShape& shape,
                                const AttentionForwardArgs& args) = 0;
  virtual void AttentionBackward(const AttentionConfig& config, const AttentionShape& shape,
                                 const AttentionBackwardArgs& args) = 0;
  // counts[h] += number of (i, t) at which head h has the largest gate (ties: lowest index). gate
  // [B, H, T]; counts [H] kF64.
  virtual void GateArgmaxCounts(const Tensor& gate, const Tensor& counts) = 0;

  // y = max(x, 0)^2; y may alias x.
  virtual void ReluSquared(const Tensor& x, const Tensor& y) = 0;
  // d_x = 2 d_y sqrt(y), which is 2 d_y max(x, 0) to the bit where the square did not underflow:
  // the root of a rounded square is what was squared (Boldo, "Stupid is as stupid does", 2015). So
  // nothing keeps x. d_x may alias d_y.
  virtual void ReluSquaredBackward(const Tensor& d_y, const Tensor& y, const Tensor& d_x) = 0;
  // act = silu(gate) o up, where silu(a) = a sigmoid(a): SwiGLU's middle (Shazeer, arXiv
  // 2002.05202). act may alias gate or up.
  virtual void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& act) = 0;
  virtual void SwiGluBackward(const SwiGluBackwardArgs& args) = 0;

  virtual void CrossEntropy(const CrossEntropyArgs& args) = 0;

  // Sum of squares over all elements, accumulated in float64 in a fixed order.
  virtual double SumOfSquares(const Tensor& x) = 0;
  // The sum of all elements in float64, in a fixed order.
  virtual double Sum(const Tensor& x) = 0;
  virtual void AdamW(const AdamWArgs& args) = 0;
  virtual void Muon(const MuonArgs& args) = 0;
  // The same of many tensors, for backends that gain from doing them together.
  virtual void AdamWAll(std::span<const AdamWArgs> all) {
    for (const AdamWArgs& args : all) AdamW(args);
  }
  virtual void MuonAll(std::span<const MuonArgs> all) {
    for (const MuonArgs& args : all) Muon(args);
  }
};

}  // namespace sinkforge::kernels
