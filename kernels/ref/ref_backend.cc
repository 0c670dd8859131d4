// RefBackend: every op but attention (ref_attention.cc) and the optimizers (ref_optimizer.cc).
#include "kernels/ref/ref_backend.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/host_backend.h"
#include "kernels/op_checks.h"
#include "kernels/ref/ref_attention.h"
#include "kernels/ref/ref_optimizer.h"

namespace sinkforge::kernels {
namespace {

template <typename Real>
void Store(Real value, WriteMode mode, Real* to) {
  *to = mode == WriteMode::kAssign ? value : *to + value;
}

// cos and sin of position t * base^(-2i/d), taken in float64 so that late positions keep their
// digits.
template <typename Real>
struct Rotation {
  Rotation(double base, int64_t t, int64_t i, int64_t head_dim) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
    const double angle = static_cast<double>(t) * std::pow(base, exponent);
    cosine = static_cast<Real>(std::cos(angle));
    sine = static_cast<Real>(std::sin(angle));
  }
  Real cosine = 0;
  Real sine = 0;
};

template <typename Real>
class RefBackend final : public HostBackend {
 public:
  std::string_view name() const override { return "ref"; }
  DType compute_dtype() const override { return DTypeOf<Real>(); }

  void Zero(const Tensor& x) override {
    if (x.dtype == DType::kF64) {
      std::fill_n(x.as<double>(), x.elements(), 0.0);
    } else if (x.dtype == DType::kF32) {
      std::fill_n(x.as<float>(), x.elements(), 0.0F);
    } else {
      std::fill_n(x.as<unsigned char>(), x.bytes(), static_cast<unsigned char>(0));
    }
  }

  void Embedding(const Tensor& tokens, const Tensor& table, const Tensor& out) override {
    CheckEmbedding(tokens, table, out);
    const MatrixShape shape = MatrixOf(table);
    for (int64_t n = 0; n < tokens.elements(); ++n) {
      const int64_t token = Token(tokens, n, shape.rows);
      std::copy_n(DataOf<Real>(table) + token * shape.cols, shape.cols,
                  DataOf<Real>(out) + n * shape.cols);
    }
  }

  void EmbeddingBackward(const Tensor& tokens, const Tensor& d_out,
                         const Tensor& d_table) override {
    CheckEmbedding(tokens, d_table, d_out);
    const MatrixShape shape = MatrixOf(d_table);
    for (int64_t n = 0; n < tokens.elements(); ++n) {
      const Real* from = DataOf<Real>(d_out) + n * shape.cols;
      Real* to = DataOf<Real>(d_table) + Token(tokens, n, shape.rows) * shape.cols;
      for (int64_t c = 0; c < shape.cols; ++c) to[c] += from[c];
    }
  }

  void RmsNorm(const Tensor& x, double epsilon, const Tensor& y, const Tensor& rstd) override {
    CheckRmsNorm(x, y, rstd);
    const MatrixShape shape = MatrixOf(x);
    for (int64_t n = 0; n < shape.rows; ++n) {
      DataOf<Real>(rstd)[n] = NormaliseRow(DataOf<Real>(x) + n * shape.cols, shape.cols, epsilon,
                                           DataOf<Real>(y) + n * shape.cols);
    }
  }

  void RmsNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd, const Tensor& d_x,
                       WriteMode mode) override {
    CheckRmsNorm(d_y, y, rstd);
    CheckSameElements(d_x, d_y);
    const MatrixShape shape = MatrixOf(d_y);
    for (int64_t n = 0; n < shape.rows; ++n) {
      NormaliseRowBackward(DataOf<Real>(d_y) + n * shape.cols, DataOf<Real>(y) + n * shape.cols,
                           DataOf<Real>(rstd)[n], shape.cols, mode,
                           DataOf<Real>(d_x) + n * shape.cols);
    }
  }

  void Linear(const Tensor& x, const Tensor& w, const Tensor& y, WriteMode mode) override {
    const LinearShape shape = CheckLinear(x, w, y);
    const Real* weights = DataOf<Real>(w);
    Real* out = DataOf<Real>(y);
    for (int64_t n = 0; n < shape.rows; ++n) {
      const Real* row = DataOf<Real>(x) + n * shape.inputs;
      for (int64_t o = 0; o < shape.outputs; ++o) {
        const Real* weight = weights + o * shape.inputs;
        Real sum = 0;
        for (int64_t i = 0; i < shape.inputs; ++i) sum += row[i] * weight[i];
        Store(sum, mode, out + n * shape.outputs + o);
      }
    }
  }

  void LinearBackwardInput(const Tensor& d_y, const Tensor& w, const Tensor& d_x,
                           WriteMode mode) override {
    const LinearShape shape = CheckLinear(d_x, w, d_y);
    const Real* d_out = DataOf<Real>(d_y);
    const Real* weights = DataOf<Real>(w);
    for (int64_t n = 0; n < shape.rows; ++n) {
      Real* to = DataOf<Real>(d_x) + n * shape.inputs;
      if (mode == WriteMode::kAssign) std::fill_n(to, shape.inputs, Real{0});
      for (int64_t o = 0; o < shape.outputs; ++o) {
        const Real d = d_out[n * shape.outputs + o];
        const Real* weight = weights + o * shape.inputs;
        for (int64_t i = 0; i < shape.inputs; ++i) to[i] += d * weight[i];
      }
    }
  }

  void LinearBackwardWeight(const Tensor& d_y, const Tensor& x, const Tensor& d_w) override {
    const LinearShape shape = CheckLinear(x, d_w, d_y);
    const Real* d_out = DataOf<Real>(d_y);
    Real* d_weights = DataOf<Real>(d_w);
    for (int64_t n = 0; n < shape.rows; ++n) {
      const Real* row = DataOf<Real>(x) + n * shape.inputs;
      for (int64_t o = 0; o < shape.outputs; ++o) {
        const Real d = d_out[n * shape.outputs + o];
        Real* to = d_weights + o * shape.inputs;
        for (int64_t i = 0; i < shape.inputs; ++i) to[i] += d * row[i];
      }
    }
  }

  void RopeNorm(const Tensor& x, int64_t sequence, int64_t heads, double rope_base, double epsilon,
                const Tensor& rstd) override {
    CheckRopeNorm(x, rstd, sequence, heads);
    const int64_t d = MatrixOf(x).cols / heads;
    const int64_t half = d / 2;
    for (int64_t row = 0; row < rstd.elements(); ++row) {
      Real* head = DataOf<Real>(x) + row * d;
      for (int64_t i = 0; i < half; ++i) {
        const Rotation<Real> r(rope_base, (row / heads) % sequence, i, d);
        const Real x1 = head[i];
        const Real x2 = head[i + half];
        head[i] = x1 * r.cosine + x2 * r.sine;
        head[i + half] = -x1 * r.sine + x2 * r.cosine;
      }
      DataOf<Real>(rstd)[row] = NormaliseRow(head, d, epsilon, head);
    }
  }

  void RopeNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd, int64_t sequence,
                        int64_t heads, double rope_base) override {
    CheckRopeNorm(y, rstd, sequence, heads);
    CheckSameElements(d_y, y);
    const int64_t d = MatrixOf(y).cols / heads;
    const int64_t half = d / 2;
    for (int64_t row = 0; row < rstd.elements(); ++row) {
      Real* head = DataOf<Real>(d_y) + row * d;
      NormaliseRowBackward(head, DataOf<Real>(y) + row * d, DataOf<Real>(rstd)[row], d,
                           WriteMode::kAssign, head);
      for (int64_t i = 0; i < half; ++i) {
        const Rotation<Real> r(rope_base, (row / heads) % sequence, i, d);
        const Real d1 = head[i];
        const Real d2 = head[i + half];
        head[i] = d1 * r.cosine - d2 * r.sine;
        head[i + half] = d1 * r.sine + d2 * r.cosine;
      }
    }
  }

  void AttentionForward(const AttentionConfig& config, const AttentionShape& shape,
                        const AttentionForwardArgs& args) override {
    CheckAttentionForward(config, shape, args, compute_dtype());
    RefAttentionForward<Real>(config, shape, args, Intermediates::kAsComputed, &attention_scratch_);
  }

  void AttentionBackward(const AttentionConfig& config, const AttentionShape& shape,
                         const AttentionBackwardArgs& args) override {
    CheckAttentionBackward(config, shape, args, compute_dtype());
    RefAttentionBackward<Real>(config, shape, args, Intermediates::kAsComputed,
                               &attention_scratch_);
  }

  void GateArgmaxCounts(const Tensor& gate, const Tensor& counts) override {
    CheckGateArgmaxCounts(gate, counts);
    const int64_t heads = gate.dim(1);
    const int64_t sequence = gate.dim(2);
    for (int64_t b = 0; b < gate.dim(0); ++b) {
      for (int64_t t = 0; t < sequence; ++t) {
        const Real* gates = DataOf<Real>(gate) + b * heads * sequence + t;
        int64_t best = 0;
        for (int64_t h = 1; h < heads; ++h) {
          if (gates[h * sequence] > gates[best * sequence]) best = h;
        }
        DataOf<double>(counts)[best] += 1;
      }
    }
  }

  void ReluSquared(const Tensor& x, const Tensor& y) override {
    CheckSameElements(x, y);
    const Real* in = DataOf<Real>(x);
    Real* out = DataOf<Real>(y);
    for (int64_t i = 0; i < x.elements(); ++i) {
      const Real positive = std::max(in[i], Real{0});
      out[i] = positive * positive;
    }
  }

  void ReluSquaredBackward(const Tensor& d_y, const Tensor& y, const Tensor& d_x) override {
    CheckSameElements(d_y, y);
    CheckSameElements(d_x, y);
    for (int64_t i = 0; i < y.elements(); ++i) {
      DataOf<Real>(d_x)[i] = DataOf<Real>(d_y)[i] * Real{2} * std::sqrt(DataOf<Real>(y)[i]);
    }
  }

  void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& act) override {
    CheckSwiGlu(gate, up, act);
    for (int64_t i = 0; i < act.elements(); ++i) {
      const Real a = DataOf<Real>(gate)[i];
      DataOf<Real>(act)[i] = a * Sigmoid(a) * DataOf<Real>(up)[i];
    }
  }

  void SwiGluBackward(const SwiGluBackwardArgs& args) override {
    CheckSwiGluBackward(args);
    for (int64_t i = 0; i < args.act.elements(); ++i) {
      const Real d = DataOf<Real>(args.d_act)[i];
      const Real a = DataOf<Real>(args.gate)[i];
      const Real u = DataOf<Real>(args.up)[i];
      const Real s = Sigmoid(a);
      DataOf<Real>(args.d_gate)[i] = d * u * (s + a * s * (Real{1} - s));
      DataOf<Real>(args.d_up)[i] = d * a * s;
      DataOf<Real>(args.act)[i] = a * s * u;
    }
  }

  void CrossEntropy(const CrossEntropyArgs& args) override {
    CheckCrossEntropy(args);
    const int64_t rows = MatrixOf(args.x).rows;
    const size_t vocabulary = static_cast<size_t>(MatrixOf(args.w).rows);
    if (logits_.size() < vocabulary) logits_.resize(vocabulary);
    for (int64_t n = 0; n < rows; ++n) CrossEntropyRow(args, n);
  }

  double SumOfSquares(const Tensor& x) override {
    double sum = 0;
    for (int64_t i = 0; i < x.elements(); ++i) {
      const double value = static_cast<double>(DataOf<Real>(x)[i]);
      sum += value * value;
    }
    return sum;
  }

  double Sum(const Tensor& x) override {
    double sum = 0;
    for (int64_t i = 0; i < x.elements(); ++i) sum += static_cast<double>(DataOf<Real>(x)[i]);
    return sum;
  }

  void AdamW(const AdamWArgs& args) override {
    CheckAdamW(args);
    RefAdamW<Real>(args);
  }

  void Muon(const MuonArgs& args) override {
    CheckMuon(args);
    RefMuon<Real>(args, Intermediates::kAsComputed, &muon_scratch_);
  }

 private:
  static int64_t Token(const Tensor& tokens, int64_t n, int64_t vocabulary) {
    const int32_t token = DataOf<int32_t>(tokens)[n];
    SINKFORGE_CHECK(token >= 0 && token < vocabulary);
    return token;
  }

  static Real Sigmoid(Real x) { return Real{1} / (Real{1} + std::exp(-x)); }

  static Real NormaliseRow(const Real* x, int64_t n, double epsilon, Real* y) {
    Real sum = 0;
    for (int64_t c = 0; c < n; ++c) sum += x[c] * x[c];
    const Real rstd = Real{1} / std::sqrt(sum / static_cast<Real>(n) + static_cast<Real>(epsilon));
    for (int64_t c = 0; c < n; ++c) y[c] = x[c] * rstd;
    return rstd;
  }

  static void NormaliseRowBackward(const Real* d_y, const Real* y, Real rstd, int64_t n,
                                   WriteMode mode, Real* d_x) {
    Real dot = 0;
    for (int64_t c = 0; c < n; ++c) dot += d_y[c] * y[c];
    const Real mean = dot / static_cast<Real>(n);
    for (int64_t c = 0; c < n; ++c) Store(rstd * (d_y[c] - y[c] * mean), mode, d_x + c);
  }

  void CrossEntropyRow(const CrossEntropyArgs& args, int64_t n) {
    const MatrixShape w_shape = MatrixOf(args.w);
    const int64_t width = w_shape.cols;
    const Real* x = DataOf<Real>(args.x) + n * width;
    const Real* w = DataOf<Real>(args.w);
    const Real cap = static_cast<Real>(args.softcap);
    const int32_t target = DataOf<int32_t>(args.targets)[n];
    const bool wants_gradient = !args.d_x.empty();
    if (wants_gradient) std::fill_n(DataOf<Real>(args.d_x) + n * width, width, Real{0});
    DataOf<Real>(args.losses)[n] = 0;
    if (target == -1) return;
    SINKFORGE_CHECK(target >= 0 && target < w_shape.rows);
    Real max = 0;
    for (int64_t o = 0; o < w_shape.rows; ++o) {
      Real logit = 0;
      for (int64_t c = 0; c < width; ++c) logit += x[c] * w[o * width + c];
      if (cap > Real{0}) logit = cap * std::tanh(logit / cap);
      logits_[static_cast<size_t>(o)] = logit;
      max = o == 0 ? logit : std::max(max, logit);
    }
    Real total = 0;
    for (int64_t o = 0; o < w_shape.rows; ++o) {
      total += std::exp(logits_[static_cast<size_t>(o)] - max);
    }
    const Real target_logit = logits_[static_cast<size_t>(target)];
    DataOf<Real>(args.losses)[n] = (max - target_logit) + std::log(total);
    if (wants_gradient) CrossEntropyRowBackward(args, n, max, total);
  }

  // From the row's softcapped logits, their maximum and the sum of exp(logit - maximum).
  void CrossEntropyRowBackward(const CrossEntropyArgs& args, int64_t n, Real max, Real total) {
    const MatrixShape w_shape = MatrixOf(args.w);
    const int64_t width = w_shape.cols;
    const Real* x = DataOf<Real>(args.x) + n * width;
    const Real* w = DataOf<Real>(args.w);
    Real* d_x = DataOf<Real>(args.d_x) + n * width;
    Real* d_w = DataOf<Real>(args.d_w);
    const Real cap = static_cast<Real>(args.softcap);
    const int32_t target = DataOf<int32_t>(args.targets)[n];
    for (int64_t o = 0; o < w_shape.rows; ++o) {
      const Real logit = logits_[static_cast<size_t>(o)];
      Real d = std::exp(logit - max) / total - (o == target ? Real{1} : Real{0});
      if (cap > Real{0}) d *= Real{1} - (logit / cap) * (logit / cap);
      d *= static_cast<Real>(args.loss_scale);
      for (int64_t c = 0; c < width; ++c) {
        d_x[c] += d * w[o * width + c];
        d_w[o * width + c] += d * x[c];
      }
    }
  }

  RefAttentionScratch<Real> attention_scratch_;
  RefMuonScratch<Real> muon_scratch_;
  std::vector<Real> logits_;  // [V]
};

}  // namespace

std::unique_ptr<Backend> MakeRefBackend(DType dtype) {
  SINKFORGE_CHECK(dtype == DType::kF32 || dtype == DType::kF64);
  if (dtype == DType::kF32) return std::make_unique<RefBackend<float>>();
  return std::make_unique<RefBackend<double>>();
}

}  // namespace sinkforge::kernels
