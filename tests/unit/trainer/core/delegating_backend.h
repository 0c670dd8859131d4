// DelegatingBackend: passes every op on to another backend, so that a test can change one of them.
#pragma once

#include "kernels/backend.h"

namespace sinkforge::trainer {

class DelegatingBackend : public kernels::Backend {
 public:
  explicit DelegatingBackend(kernels::Backend* inner) : inner_(inner) {}

  std::string_view name() const override { return inner_->name(); }
  kernels::DType compute_dtype() const override { return inner_->compute_dtype(); }
  kernels::DType activation_dtype() const override { return inner_->activation_dtype(); }
  void* Allocate(int64_t bytes) override { return inner_->Allocate(bytes); }
  void Free(void* memory) override { inner_->Free(memory); }
  void CopyFromHost(const kernels::Tensor& to, const void* from) override {
    inner_->CopyFromHost(to, from);
  }
  void CopyToHost(void* to, const kernels::Tensor& from) override { inner_->CopyToHost(to, from); }
  void Zero(const kernels::Tensor& x) override { inner_->Zero(x); }
  void Copy(const kernels::Tensor& from, const kernels::Tensor& to) override {
    inner_->Copy(from, to);
  }
  void Embedding(const kernels::Tensor& tokens, const kernels::Tensor& table,
                 const kernels::Tensor& out) override {
    inner_->Embedding(tokens, table, out);
  }
  void EmbeddingBackward(const kernels::Tensor& tokens, const kernels::Tensor& d_out,
                         const kernels::Tensor& d_table) override {
    inner_->EmbeddingBackward(tokens, d_out, d_table);
  }
  void RmsNorm(const kernels::Tensor& x, double epsilon, const kernels::Tensor& y,
               const kernels::Tensor& rstd) override {
    inner_->RmsNorm(x, epsilon, y, rstd);
  }
  void RmsNormBackward(const kernels::Tensor& d_y, const kernels::Tensor& y,
                       const kernels::Tensor& rstd, const kernels::Tensor& d_x,
                       kernels::WriteMode mode) override {
    inner_->RmsNormBackward(d_y, y, rstd, d_x, mode);
  }
  void Linear(const kernels::Tensor& x, const kernels::Tensor& w, const kernels::Tensor& y,
              kernels::WriteMode mode) override {
    inner_->Linear(x, w, y, mode);
  }
  void LinearBackwardInput(const kernels::Tensor& d_y, const kernels::Tensor& w,
                           const kernels::Tensor& d_x, kernels::WriteMode mode) override {
    inner_->LinearBackwardInput(d_y, w, d_x, mode);
  }
  void LinearBackwardWeight(const kernels::Tensor& d_y, const kernels::Tensor& x,
                            const kernels::Tensor& d_w) override {
    inner_->LinearBackwardWeight(d_y, x, d_w);
  }
  void RopeNorm(const kernels::Tensor& x, int64_t sequence, int64_t heads, double rope_base,
                double epsilon, const kernels::Tensor& rstd) override {
    inner_->RopeNorm(x, sequence, heads, rope_base, epsilon, rstd);
  }
  void RopeNormBackward(const kernels::Tensor& d_y, const kernels::Tensor& y,
                        const kernels::Tensor& rstd, int64_t sequence, int64_t heads,
                        double rope_base) override {
    inner_->RopeNormBackward(d_y, y, rstd, sequence, heads, rope_base);
  }
  void AttentionForward(const kernels::AttentionConfig& config,
                        const kernels::AttentionShape& shape,
                        const kernels::AttentionForwardArgs& args) override {
    inner_->AttentionForward(config, shape, args);
  }
  void AttentionBackward(const kernels::AttentionConfig& config,
                         const kernels::AttentionShape& shape,
                         const kernels::AttentionBackwardArgs& args) override {
    inner_->AttentionBackward(config, shape, args);
  }
  void GateArgmaxCounts(const kernels::Tensor& gate, const kernels::Tensor& counts) override {
    inner_->GateArgmaxCounts(gate, counts);
  }
  void ReluSquared(const kernels::Tensor& x, const kernels::Tensor& y) override {
    inner_->ReluSquared(x, y);
  }
  void ReluSquaredBackward(const kernels::Tensor& d_y, const kernels::Tensor& y,
                           const kernels::Tensor& d_x) override {
    inner_->ReluSquaredBackward(d_y, y, d_x);
  }
  void SwiGlu(const kernels::Tensor& gate, const kernels::Tensor& up,
              const kernels::Tensor& act) override {
    inner_->SwiGlu(gate, up, act);
  }
  void SwiGluBackward(const kernels::SwiGluBackwardArgs& args) override {
    inner_->SwiGluBackward(args);
  }
  void CrossEntropy(const kernels::CrossEntropyArgs& args) override { inner_->CrossEntropy(args); }
  double SumOfSquares(const kernels::Tensor& x) override { return inner_->SumOfSquares(x); }
  double Sum(const kernels::Tensor& x) override { return inner_->Sum(x); }
  void AdamW(const kernels::AdamWArgs& args) override { inner_->AdamW(args); }
  void Muon(const kernels::MuonArgs& args) override { inner_->Muon(args); }
  void AdamWAll(std::span<const kernels::AdamWArgs> all) override { inner_->AdamWAll(all); }
  void MuonAll(std::span<const kernels::MuonArgs> all) override { inner_->MuonAll(all); }

 protected:
  kernels::Backend* inner() const { return inner_; }

 private:
  kernels::Backend* inner_;  // not owned
};

}  // namespace sinkforge::trainer
