// RefMixedBackend: widens, calls the float32 reference, rounds.
#include "kernels/ref/ref_mixed_backend.h"

#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/host_backend.h"
#include "kernels/op_checks.h"
#include "kernels/ref/ref_attention.h"
#include "kernels/ref/ref_backend.h"
#include "kernels/ref/ref_optimizer.h"

namespace sinkforge::kernels {
namespace {

enum class Access { kRead, kWrite };

// A bfloat16 tensor as float32 for the time of one op; other tensors as they are.
class Wide {
 public:
  explicit Wide(const Tensor& stored, Access access = Access::kRead)
      : stored_(stored), tensor_(stored), access_(access) {
    if (!narrow()) return;
    values_.resize(static_cast<size_t>(stored.elements()));
    const uint16_t* from = stored.as<uint16_t>();
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = FromBfloat16(from[i]);
    tensor_.data = values_.data();
    tensor_.dtype = DType::kF32;
  }
  ~Wide() {
    if (!narrow() || access_ == Access::kRead) return;
    uint16_t* to = stored_.as<uint16_t>();
    for (size_t i = 0; i < values_.size(); ++i) to[i] = RoundToBfloat16(values_[i]);
  }
  Wide(const Wide&) = delete;
  Wide& operator=(const Wide&) = delete;

  const Tensor& operator*() const { return tensor_; }

 private:
  bool narrow() const { return !stored_.empty() && stored_.dtype == DType::kBF16; }

  Tensor stored_;
  Tensor tensor_;
  Access access_;
  std::vector<float> values_;
};

class RefMixedBackend final : public HostBackend {
 public:
  std::string_view name() const override { return "ref"; }
  DType compute_dtype() const override { return DType::kF32; }
  DType activation_dtype() const override { return DType::kBF16; }

  void Zero(const Tensor& x) override { inner_->Zero(x); }

  void Embedding(const Tensor& tokens, const Tensor& table, const Tensor& out) override {
    const Wide to(out, Access::kWrite);
    inner_->Embedding(tokens, *Wide(table), *to);
  }
  void EmbeddingBackward(const Tensor& tokens, const Tensor& d_out,
                         const Tensor& d_table) override {
    inner_->EmbeddingBackward(tokens, *Wide(d_out), d_table);
  }

  void RmsNorm(const Tensor& x, double epsilon, const Tensor& y, const Tensor& rstd) override {
    const Wide to(y, Access::kWrite);
    inner_->RmsNorm(*Wide(x), epsilon, *to, rstd);
  }
  void RmsNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd, const Tensor& d_x,
                       WriteMode mode) override {
    const Wide to(d_x, Access::kWrite);
    inner_->RmsNormBackward(*Wide(d_y), *Wide(y), rstd, *to, mode);
  }

  void Linear(const Tensor& x, const Tensor& w, const Tensor& y, WriteMode mode) override {
    const Wide to(y, Access::kWrite);
    inner_->Linear(*Wide(x), *Wide(w), *to, mode);
  }
  void LinearBackwardInput(const Tensor& d_y, const Tensor& w, const Tensor& d_x,
                           WriteMode mode) override {
    const Wide to(d_x, Access::kWrite);
    inner_->LinearBackwardInput(*Wide(d_y), *Wide(w), *to, mode);
  }
  void LinearBackwardWeight(const Tensor& d_y, const Tensor& x, const Tensor& d_w) override {
    inner_->LinearBackwardWeight(*Wide(d_y), *Wide(x), d_w);
  }

  void RopeNorm(const Tensor& x, int64_t sequence, int64_t heads, double rope_base, double epsilon,
                const Tensor& rstd) override {
    const Wide to(x, Access::kWrite);
    inner_->RopeNorm(*to, sequence, heads, rope_base, epsilon, rstd);
  }
  void RopeNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd, int64_t sequence,
                        int64_t heads, double rope_base) override {
    const Wide to(d_y, Access::kWrite);
    inner_->RopeNormBackward(*to, *Wide(y), rstd, sequence, heads, rope_base);
  }

  void AttentionForward(const AttentionConfig& config, const AttentionShape& shape,
                        const AttentionForwardArgs& args) override {
    const Wide q(args.q), k(args.k), v(args.v), gate_logits(args.gate_logits);
    const Wide out(args.out, Access::kWrite), normed(args.normed, Access::kWrite);
    AttentionForwardArgs wide = args;
    wide.q = *q;
    wide.k = *k;
    wide.v = *v;
    wide.gate_logits = *gate_logits;
    wide.out = *out;
    wide.normed = *normed;
    CheckAttentionForward(config, shape, wide, DType::kF32);
    RefAttentionForward<float>(config, shape, wide, Intermediates::kBfloat16, &attention_scratch_);
  }

  void AttentionBackward(const AttentionConfig& config, const AttentionShape& shape,
                         const AttentionBackwardArgs& args) override {
    const Wide q(args.q), k(args.k), v(args.v), gate_logits(args.gate_logits);
    const Wide out(args.out), normed(args.normed), d_out(args.d_out);
    const Wide d_q(args.d_q, Access::kWrite), d_k(args.d_k, Access::kWrite);
    const Wide d_v(args.d_v, Access::kWrite), d_gate_logits(args.d_gate_logits, Access::kWrite);
    AttentionBackwardArgs wide = args;
    wide.q = *q;
    wide.k = *k;
    wide.v = *v;
    wide.gate_logits = *gate_logits;
    wide.out = *out;
    wide.normed = *normed;
    wide.d_out = *d_out;
    wide.d_q = *d_q;
    wide.d_k = *d_k;
    wide.d_v = *d_v;
    wide.d_gate_logits = *d_gate_logits;
    CheckAttentionBackward(config, shape, wide, DType::kF32);
    RefAttentionBackward<float>(config, shape, wide, Intermediates::kBfloat16, &attention_scratch_);
  }

  void GateArgmaxCounts(const Tensor& gate, const Tensor& counts) override {
    inner_->GateArgmaxCounts(gate, counts);
  }
  void ReluSquared(const Tensor& x, const Tensor& y) override {
    const Wide to(y, Access::kWrite);
    inner_->ReluSquared(*Wide(x), *to);
  }
  void ReluSquaredBackward(const Tensor& d_y, const Tensor& y, const Tensor& d_x) override {
    const Wide to(d_x, Access::kWrite);
    inner_->ReluSquaredBackward(*Wide(d_y), *Wide(y), *to);
  }
  void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& act) override {
    const Wide to(act, Access::kWrite);
    inner_->SwiGlu(*Wide(gate), *Wide(up), *to);
  }
  void SwiGluBackward(const SwiGluBackwardArgs& args) override {
    const Wide d_act(args.d_act), gate(args.gate), up(args.up);
    const Wide d_gate(args.d_gate, Access::kWrite), d_up(args.d_up, Access::kWrite);
    const Wide act(args.act, Access::kWrite);
    inner_->SwiGluBackward({*d_act, *gate, *up, *d_gate, *d_up, *act});
  }

  // The gradient of the logits is rounded before it meets x and w.
  void CrossEntropy(const CrossEntropyArgs& args) override {
    const Wide x(args.x), w(args.w), d_x(args.d_x, Access::kWrite);
    CrossEntropyArgs wide = args;
    wide.x = *x;
    wide.w = *w;
    wide.d_x = wide.d_w = Tensor();
    inner_->CrossEntropy(wide);
    if (args.d_x.empty()) return;
    CheckCrossEntropy(args);
    const int64_t rows = MatrixOf(args.x).rows;
    const int64_t vocabulary = MatrixOf(args.w).rows;
    logits_.resize(static_cast<size_t>(rows * vocabulary));
    const Tensor logits(logits_.data(), DType::kF32, {rows, vocabulary});
    inner_->Linear(*x, *w, logits, WriteMode::kAssign);
    for (int64_t n = 0; n < rows; ++n) {
      LogitGradient(args, n, vocabulary, logits_.data() + n * vocabulary);
    }
    RoundAll(Intermediates::kBfloat16, logits_.data(), logits.elements());
    inner_->LinearBackwardInput(logits, *w, *d_x, WriteMode::kAssign);
    inner_->LinearBackwardWeight(logits, *x, args.d_w);
  }

  double SumOfSquares(const Tensor& x) override { return inner_->SumOfSquares(*Wide(x)); }
  double Sum(const Tensor& x) override { return inner_->Sum(*Wide(x)); }
  void AdamW(const AdamWArgs& args) override { inner_->AdamW(args); }

  void Muon(const MuonArgs& args) override {
    CheckMuon(args);
    RefMuon<float>(args, Intermediates::kBfloat16, &muon_scratch_);
  }

 private:
  // From a row's logits to the gradient by them, in place.
  static void LogitGradient(const CrossEntropyArgs& args, int64_t n, int64_t vocabulary,
                            float* row) {
    const int32_t target = DataOf<int32_t>(args.targets)[n];
    const auto cap = static_cast<float>(args.softcap);
    double total = 0;
    for (int64_t o = 0; o < vocabulary; ++o) {
      if (cap > 0) row[o] = cap * std::tanh(row[o] / cap);
      total += std::exp(static_cast<double>(row[o]));
    }
    for (int64_t o = 0; o < vocabulary; ++o) {
      const float z = row[o];
      const auto p = static_cast<float>(std::exp(static_cast<double>(z)) / total);
      const float slope = cap > 0 ? 1.0F - (z / cap) * (z / cap) : 1.0F;
      const float d = (p - (o == target ? 1.0F : 0.0F)) * slope;
      row[o] = target < 0 ? 0.0F : d * static_cast<float>(args.loss_scale);
    }
  }

  const std::unique_ptr<Backend> inner_ = MakeRefBackend(DType::kF32);
  RefAttentionScratch<float> attention_scratch_;
  RefMuonScratch<float> muon_scratch_;
  std::vector<float> logits_;  // [N, V]
};

}  // namespace

std::unique_ptr<Backend> MakeRefMixedBackend() { return std::make_unique<RefMixedBackend>(); }

}  // namespace sinkforge::kernels
