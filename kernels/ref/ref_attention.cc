// Equations: method.md sections 1 to 3. Everything is accumulated in Real.
#include "kernels/ref/ref_attention.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/op_checks.h"

namespace sinkforge::kernels {
namespace {

template <typename Real>
Real Sigmoid(Real x) {
  return Real{1} / (Real{1} + std::exp(-x));
}

template <typename Real>
Real Dot(const Real* a, const Real* b, int64_t n) {
  Real sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// Where the numbers of one (sample, head, query position) are.
struct RowIndex {
  int64_t b, h, t;
  int64_t n;     // row of the [N, ...] tensors
  int64_t q;     // offset of the head's channels in [N, H*d]
  int64_t gate;  // offset in [N, H]
  int64_t stat;  // offset in [B, H, T]
};

RowIndex IndexOf(const AttentionShape& shape, int64_t b, int64_t h, int64_t t) {
  const int64_t n = b * shape.sequence + t;
  return {.b = b,
          .h = h,
          .t = t,
          .n = n,
          .q = (n * shape.heads + h) * shape.head_dim,
          .gate = n * shape.heads + h,
          .stat = (b * shape.heads + h) * shape.sequence + t};
}

// Offset in [N, Hkv*d] of key (or value) j that row `row` reads.
int64_t KeyOffset(const AttentionShape& shape, const RowIndex& row, int64_t j) {
  const int64_t kv_head = row.h / (shape.heads / shape.kv_heads);
  return ((row.b * shape.sequence + j) * shape.kv_heads + kv_head) * shape.head_dim;
}

template <typename Real>
Real LogitScale(const AttentionShape& shape) {
  return Real{1} / std::sqrt(static_cast<Real>(shape.head_dim));
}

template <typename Real>
class Forward {
 public:
  Forward(const AttentionConfig& config, const AttentionShape& shape,
          const AttentionForwardArgs& args, Intermediates rounding,
          RefAttentionScratch<Real>* scratch)
      : config_(config),
        shape_(shape),
        args_(args),
        rounding_(rounding),
        p_(scratch->probability.data()),
        u_(scratch->aggregated.data()) {}

  // Returns G.
  Real Row(const RowIndex& row) {
    const Real gate_of_softmax = Aggregate(row);
    if (config_.head_norm == HeadNorm::kRms) Normalise(row);
    const Real gate =
        config_.variant == AttentionVariant::kGated ? ApplyGate(row) : gate_of_softmax;
    args_.gate.as<Real>()[row.stat] = gate;
    Real* out = args_.out.as<Real>() + row.q;
    std::copy(u_, u_ + shape_.head_dim, out);
    return gate;
  }

 private:
  // u = sum_j P_j v_j; writes lse; returns the gate of vanilla and sink.
  Real Aggregate(const RowIndex& row) {
    const int64_t d = shape_.head_dim;
    const Real* q = args_.q.as<Real>() + row.q;
    const bool has_sink = config_.variant == AttentionVariant::kSink;
    const Real sink = has_sink ? args_.sinks.as<Real>()[row.h] : Real{0};
    Real max = 0;
    for (int64_t j = 0; j <= row.t; ++j) {
      p_[j] = Dot(q, args_.k.as<Real>() + KeyOffset(shape_, row, j), d) * LogitScale<Real>(shape_);
      max = j == 0 ? p_[j] : std::max(max, p_[j]);
    }
    if (has_sink) max = std::max(max, sink);
    // The sum over all keys but the first is kept apart: 1 - P_0 would cancel.
    Real rest = 0;
    for (int64_t j = 0; j <= row.t; ++j) {
      p_[j] = std::exp(p_[j] - max);
      if (j > 0) rest += p_[j];
    }
    const Real keys = rest + p_[0];
    const Real total = has_sink ? keys + std::exp(sink - max) : keys;
    RoundAll(rounding_, p_, row.t + 1);
    std::fill(u_, u_ + d, Real{0});
    for (int64_t j = 0; j <= row.t; ++j) {
      const Real* v = args_.v.as<Real>() + KeyOffset(shape_, row, j);
      for (int64_t c = 0; c < d; ++c) u_[c] += p_[j] * v[c];
    }
    for (int64_t c = 0; c < d; ++c) u_[c] /= total;
    args_.lse.as<Real>()[row.stat] = max + std::log(total);
    return (has_sink ? keys : rest) / total;
  }

  void Normalise(const RowIndex& row) {
    const int64_t d = shape_.head_dim;
    const Real mean_square = Dot(u_, u_, d) / static_cast<Real>(d);
    const Real rstd = Real{1} / std::sqrt(mean_square + static_cast<Real>(config_.epsilon));
    for (int64_t c = 0; c < d; ++c) u_[c] *= rstd;
    args_.head_rstd.as<Real>()[row.stat] = rstd;
    if (config_.variant == AttentionVariant::kGated) {
      std::copy(u_, u_ + d, args_.normed.as<Real>() + row.q);
    }
  }

  // u = sigmoid(a) o u; returns the gate (its mean over the channels for kElement).
  Real ApplyGate(const RowIndex& row) {
    const int64_t d = shape_.head_dim;
    const Real* logits = args_.gate_logits.as<Real>();
    if (config_.gate == GateGranularity::kHead) {
      const Real gate = Sigmoid(logits[row.gate]);
      for (int64_t c = 0; c < d; ++c) u_[c] *= gate;
      return gate;
    }
    Real sum = 0;
    for (int64_t c = 0; c < d; ++c) {
      const Real gate = Sigmoid(logits[row.q + c]);
      u_[c] *= gate;
      sum += gate;
    }
    return sum / static_cast<Real>(d);
  }

  const AttentionConfig& config_;
  const AttentionShape& shape_;
  const AttentionForwardArgs& args_;
  const Intermediates rounding_;
  Real* p_;
  Real* u_;
};

template <typename Real>
class Backward {
 public:
  Backward(const AttentionConfig& config, const AttentionShape& shape,
           const AttentionBackwardArgs& args, Intermediates rounding,
           RefAttentionScratch<Real>* scratch)
      : config_(config),
        shape_(shape),
        args_(args),
        rounding_(rounding),
        du_(scratch->aggregated.data()) {}

  void Row(const RowIndex& row) {
    const Real g = static_cast<Real>(args_.importance_gradient.as<double>()[row.h]);
    const Real* d_out = args_.d_out.as<Real>() + row.q;
    std::copy(d_out, d_out + shape_.head_dim, du_);
    if (config_.variant == AttentionVariant::kGated) GateBackward(row, g);
    Real delta = NormBackward(row);
    const bool scaled_output =
        config_.head_norm == HeadNorm::kNone &&
        (config_.variant != AttentionVariant::kGated || config_.gate == GateGranularity::kHead);
    if (!scaled_output) RoundAll(rounding_, du_, shape_.head_dim);
    // `column` is what the importance takes from dP of the first key.
    Real column = 0;
    const bool exact = config_.lse_gradient == LseGradient::kExact;
    if (config_.variant == AttentionVariant::kSink) {
      SinkBackward(row, g, delta);
      const Real gate = args_.gate.as<Real>()[row.stat];
      if (exact) {
        delta -= g * SinkProbability(row);
      } else {
        // dO . O~ with O~ = O / G. A gate of zero means that every P is zero as well.
        delta = gate > Real{0} ? delta / gate : Real{0};
      }
    } else if (config_.variant == AttentionVariant::kVanilla) {
      column = exact || row.t > 0 ? g : Real{0};
      if (exact) delta -= g * FirstKeyProbability(row);
    }
    KeysBackward(row, delta, column);
  }

 private:
  Real Probability(const RowIndex& row, int64_t j) const {
    const Real* q = args_.q.as<Real>() + row.q;
    const Real* k = args_.k.as<Real>() + KeyOffset(shape_, row, j);
    const Real z = Dot(q, k, shape_.head_dim) * LogitScale<Real>(shape_);
    return std::exp(z - args_.lse.as<Real>()[row.stat]);
  }
  Real FirstKeyProbability(const RowIndex& row) const { return Probability(row, 0); }
  // exp(s - L'), not 1 - G: that would cancel.
  Real SinkProbability(const RowIndex& row) const {
    return std::exp(args_.sinks.as<Real>()[row.h] - args_.lse.as<Real>()[row.stat]);
  }

  // du = G o dO;  da = (dO . O + g G)(1 - G), for kElement (dO o O + g G / d)(1 - G).
  void GateBackward(const RowIndex& row, Real g) {
    const int64_t d = shape_.head_dim;
    const Real* out = args_.out.as<Real>() + row.q;
    const Real* logits = args_.gate_logits.as<Real>();
    Real* d_logits = args_.d_gate_logits.as<Real>();
    if (config_.gate == GateGranularity::kHead) {
      const Real a = logits[row.gate];
      d_logits[row.gate] = (Dot(du_, out, d) + g * Sigmoid(a)) * Sigmoid(-a);
      for (int64_t c = 0; c < d; ++c) du_[c] *= Sigmoid(a);
      return;
    }
    const Real share = g / static_cast<Real>(d);
    for (int64_t c = 0; c < d; ++c) {
      const Real a = logits[row.q + c];
      d_logits[row.q + c] = (du_[c] * out[c] + share * Sigmoid(a)) * Sigmoid(-a);
      du_[c] *= Sigmoid(a);
    }
  }

  // Turns dY in du into dU and returns D = dU . U.
  Real NormBackward(const RowIndex& row) {
    const int64_t d = shape_.head_dim;
    if (config_.head_norm == HeadNorm::kNone) {
      // dU . U = (G o dO) . U = dO . O, so that U is not needed.
      return Dot(args_.d_out.as<Real>() + row.q, args_.out.as<Real>() + row.q, d);
    }
    const bool gated = config_.variant == AttentionVariant::kGated;
    const Real* y = (gated ? args_.normed : args_.out).template as<Real>() + row.q;
    const Real rstd = args_.head_rstd.as<Real>()[row.stat];
    const Real dot = Dot(du_, y, d);
    for (int64_t c = 0; c < d; ++c) {
      du_[c] = rstd * (du_[c] - y[c] * (dot / static_cast<Real>(d)));
    }
    // dU . U = (dY . Y)(1 - mean Y^2), and mean Y^2 = 1 - epsilon rstd^2 leaves no cancellation.
    return dot * static_cast<Real>(config_.epsilon) * rstd * rstd;
  }

  // ds = P_s (-g - D) with the exact D; written so that it holds for the detached D as well.
  void SinkBackward(const RowIndex& row, Real g, Real d_out_dot_out) {
    args_.d_sinks.as<Real>()[row.h] -=
        SinkProbability(row) * (g * args_.gate.as<Real>()[row.stat] + d_out_dot_out);
  }

  void KeysBackward(const RowIndex& row, Real delta, Real column) {
    const int64_t d = shape_.head_dim;
    const Real* q = args_.q.as<Real>() + row.q;
    Real* d_q = args_.d_q.as<Real>() + row.q;
    for (int64_t j = 0; j <= row.t; ++j) {
      const int64_t key = KeyOffset(shape_, row, j);
      const Real* k = args_.k.as<Real>() + key;
      const Real p = Probability(row, j);
      Real dp = Dot(du_, args_.v.as<Real>() + key, d);
      if (j == 0) dp -= column;
      const Real dz = p * (dp - delta) * LogitScale<Real>(shape_);
      Real* d_k = args_.d_k.as<Real>() + key;
      Real* d_v = args_.d_v.as<Real>() + key;
      for (int64_t c = 0; c < d; ++c) {
        d_q[c] += dz * k[c];
        d_k[c] += dz * q[c];
        d_v[c] += p * du_[c];
      }
    }
  }

  const AttentionConfig& config_;
  const AttentionShape& shape_;
  const AttentionBackwardArgs& args_;
  const Intermediates rounding_;
  Real* du_;
};

template <typename Real>
void Reserve(const AttentionShape& shape, RefAttentionScratch<Real>* scratch) {
  const size_t sequence = static_cast<size_t>(shape.sequence);
  const size_t head_dim = static_cast<size_t>(shape.head_dim);
  if (scratch->probability.size() < sequence) scratch->probability.resize(sequence);
  if (scratch->aggregated.size() < head_dim) scratch->aggregated.resize(head_dim);
}

template <typename Real>
void FillZero(const Tensor& x) {
  std::fill(x.as<Real>(), x.as<Real>() + x.elements(), Real{0});
}

}  // namespace

template <typename Real>
void RefAttentionForward(const AttentionConfig& config, const AttentionShape& shape,
                         const AttentionForwardArgs& args, Intermediates rounding,
                         RefAttentionScratch<Real>* scratch) {
  Reserve(shape, scratch);
  Forward<Real> forward(config, shape, args, rounding, scratch);
  for (int64_t h = 0; h < shape.heads; ++h) {
    double sum = 0;
    for (int64_t b = 0; b < shape.batch; ++b) {
      for (int64_t t = 0; t < shape.sequence; ++t) {
        sum += static_cast<double>(forward.Row(IndexOf(shape, b, h, t)));
      }
    }
    args.importance_sum.as<double>()[h] += sum;
  }
}

template <typename Real>
void RefAttentionBackward(const AttentionConfig& config, const AttentionShape& shape,
                          const AttentionBackwardArgs& args, Intermediates rounding,
                          RefAttentionScratch<Real>* scratch) {
  Reserve(shape, scratch);
  FillZero<Real>(args.d_q);
  FillZero<Real>(args.d_k);
  FillZero<Real>(args.d_v);
  Backward<Real> backward(config, shape, args, rounding, scratch);
  for (int64_t b = 0; b < shape.batch; ++b) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      for (int64_t t = 0; t < shape.sequence; ++t) backward.Row(IndexOf(shape, b, h, t));
    }
  }
}

template void RefAttentionForward<float>(const AttentionConfig&, const AttentionShape&,
                                         const AttentionForwardArgs&, Intermediates,
                                         RefAttentionScratch<float>*);
template void RefAttentionForward<double>(const AttentionConfig&, const AttentionShape&,
                                          const AttentionForwardArgs&, Intermediates,
                                          RefAttentionScratch<double>*);
template void RefAttentionBackward<float>(const AttentionConfig&, const AttentionShape&,
                                          const AttentionBackwardArgs&, Intermediates,
                                          RefAttentionScratch<float>*);
template void RefAttentionBackward<double>(const AttentionConfig&, const AttentionShape&,
                                           const AttentionBackwardArgs&, Intermediates,
                                           RefAttentionScratch<double>*);

}  // namespace sinkforge::kernels
