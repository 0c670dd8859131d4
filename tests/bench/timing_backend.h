// TimingBackend: passes every op on and adds up how long each kind took, and for products how many
// floating-point operations they were.
#pragma once

#include <map>
#include <span>
#include <string>

#include "tests/unit/trainer/core/delegating_backend.h"

namespace sinkforge::bench {

class TimingBackend final : public trainer::DelegatingBackend {
 public:
  // Seconds since some moment: of a clock, or those that the processor worked.
  using Clock = double (*)();
  TimingBackend(kernels::Backend* inner, Clock clock) : DelegatingBackend(inner), clock_(clock) {}

  // Forgets what was counted, and counts from here on.
  void Start() {
    counts_.clear();
    counting_ = true;
  }
  // Markdown: op, seconds, share of `step_seconds`, rate; the products also as a share of the
  // library's on 2048^3, which is measured here.
  std::string Table(double step_seconds);
  // Floating-point operations a second of the linear layers' products since Start(), and of the
  // library on 2048^3.
  struct Rates {
    double products, peak;
  };
  Rates ProductRates();

  void Zero(const kernels::Tensor& x) override;
  void Copy(const kernels::Tensor& from, const kernels::Tensor& to) override;
  void Embedding(const kernels::Tensor& tokens, const kernels::Tensor& table,
                 const kernels::Tensor& out) override;
  void EmbeddingBackward(const kernels::Tensor& tokens, const kernels::Tensor& d_out,
                         const kernels::Tensor& d_table) override;
  void RmsNorm(const kernels::Tensor& x, double epsilon, const kernels::Tensor& y,
               const kernels::Tensor& rstd) override;
  void RmsNormBackward(const kernels::Tensor& d_y, const kernels::Tensor& y,
                       const kernels::Tensor& rstd, const kernels::Tensor& d_x,
                       kernels::WriteMode mode) override;
  void Linear(const kernels::Tensor& x, const kernels::Tensor& w, const kernels::Tensor& y,
              kernels::WriteMode mode) override;
  void LinearBackwardInput(const kernels::Tensor& d_y, const kernels::Tensor& w,
                           const kernels::Tensor& d_x, kernels::WriteMode mode) override;
  void LinearBackwardWeight(const kernels::Tensor& d_y, const kernels::Tensor& x,
                            const kernels::Tensor& d_w) override;
  void RopeNorm(const kernels::Tensor& x, int64_t sequence, int64_t heads, double rope_base,
                double epsilon, const kernels::Tensor& rstd) override;
  void RopeNormBackward(const kernels::Tensor& d_y, const kernels::Tensor& y,
                        const kernels::Tensor& rstd, int64_t sequence, int64_t heads,
                        double rope_base) override;
  void AttentionForward(const kernels::AttentionConfig& config,
                        const kernels::AttentionShape& shape,
                        const kernels::AttentionForwardArgs& args) override;
  void AttentionBackward(const kernels::AttentionConfig& config,
                         const kernels::AttentionShape& shape,
                         const kernels::AttentionBackwardArgs& args) override;
  void ReluSquared(const kernels::Tensor& x, const kernels::Tensor& y) override;
  void ReluSquaredBackward(const kernels::Tensor& d_y, const kernels::Tensor& y,
                           const kernels::Tensor& d_x) override;
  void SwiGlu(const kernels::Tensor& gate, const kernels::Tensor& up,
              const kernels::Tensor& act) override;
  void SwiGluBackward(const kernels::SwiGluBackwardArgs& args) override;
  void CrossEntropy(const kernels::CrossEntropyArgs& args) override;
  double SumOfSquares(const kernels::Tensor& x) override;
  void AdamWAll(std::span<const kernels::AdamWArgs> all) override;
  void MuonAll(std::span<const kernels::MuonArgs> all) override;

 private:
  struct Count {
    double seconds = 0;
    double flops = 0;  // of products
  };
  template <typename Op>
  void Time(const char* name, double flops, const Op& op) {
    if (!counting_) {
      op();
      return;
    }
    const double start = clock_();
    op();
    Count& count = counts_[name];
    count.seconds += clock_() - start;
    count.flops += flops;
  }
  double PeakFlopsPerSecond();

  const Clock clock_;
  bool counting_ = false;
  std::map<std::string, Count> counts_;
};

}  // namespace sinkforge::bench
