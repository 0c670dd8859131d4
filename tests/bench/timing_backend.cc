// Floating-point operations are counted as 2 a multiply-add; causal attention as half of the full
// square, its backward as 2.5 times its forward.
#include "tests/bench/timing_backend.h"

#include <algorithm>
#include <cstdio>
#include <vector>

namespace sinkforge::bench {

using kernels::Tensor;

namespace {

double ProductFlops(const Tensor& y, const Tensor& w) {
  return 2.0 * static_cast<double>(y.elements()) * static_cast<double>(w.dim(1));
}

double AttentionFlops(const kernels::AttentionShape& shape) {
  const auto t = static_cast<double>(shape.sequence);
  return 2 * t * t * static_cast<double>(shape.batch * shape.heads * shape.head_dim);
}

// Five steps of the three products for every matrix.
double MuonFlops(const Tensor& parameter) {
  const auto s = static_cast<double>(std::min(parameter.dim(0), parameter.dim(1)));
  const auto l = static_cast<double>(std::max(parameter.dim(0), parameter.dim(1)));
  return 5 * 2 * (2 * s * s * l + s * s * s);
}

}  // namespace

double TimingBackend::PeakFlopsPerSecond() {
  constexpr int64_t kSize = 2048;
  constexpr int kRuns = 5;
  Tensor parts[3];
  for (Tensor& part : parts) {
    part = Tensor(nullptr, kernels::DType::kF32, {kSize, kSize});
    part.data = inner()->Allocate(part.bytes());
    std::fill_n(part.as<float>(), part.elements(), 0.5F);
  }
  double best = 0;
  for (int i = 0; i < kRuns; ++i) {
    const double start = clock_();
    inner()->Linear(parts[0], parts[1], parts[2], kernels::WriteMode::kAssign);
    best = std::max(best, ProductFlops(parts[2], parts[1]) / (clock_() - start));
  }
  for (Tensor& part : parts) inner()->Free(part.data);
  return best;
}

TimingBackend::Rates TimingBackend::ProductRates() {
  counting_ = false;
  Count products;
  for (const auto& [name, count] : counts_) {
    if (!name.starts_with("product")) continue;
    products.seconds += count.seconds;
    products.flops += count.flops;
  }
  return {products.flops / products.seconds, PeakFlopsPerSecond()};
}

std::string TimingBackend::Table(double step_seconds) {
  counting_ = false;
  const double peak = PeakFlopsPerSecond();
  std::vector<std::pair<std::string, Count>> sorted(counts_.begin(), counts_.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  std::string text = "| op | ms | share | GFLOP/s | of 2048^3 |\n|---|---|---|---|---|\n";
  double known = 0;
  char line[160];
  for (const auto& [name, count] : sorted) {
    known += count.seconds;
    std::snprintf(line, sizeof line, "| %s | %.2f | %.1f %% |", name.c_str(), 1e3 * count.seconds,
                  100 * count.seconds / step_seconds);
    text += line;
    if (count.flops > 0) {
      const double rate = count.flops / count.seconds;
      std::snprintf(line, sizeof line, " %.0f | %.0f %% |\n", rate / 1e9, 100 * rate / peak);
      text += line;
    } else {
      text += " | |\n";
    }
  }
  std::snprintf(line, sizeof line, "| rest | %.2f | %.1f %% | | |\n", 1e3 * (step_seconds - known),
                100 * (1 - known / step_seconds));
  text += line;
  std::snprintf(line, sizeof line, "| step | %.2f | | | 2048^3: %.0f GFLOP/s |\n",
                1e3 * step_seconds, peak / 1e9);
  return text + line;
}

void TimingBackend::Zero(const Tensor& x) {
  Time("zero", 0, [&] { inner()->Zero(x); });
}
void TimingBackend::Copy(const Tensor& from, const Tensor& to) {
  Time("copy", 0, [&] { inner()->Copy(from, to); });
}
void TimingBackend::Embedding(const Tensor& tokens, const Tensor& table, const Tensor& out) {
  Time("embedding", 0, [&] { inner()->Embedding(tokens, table, out); });
}
void TimingBackend::EmbeddingBackward(const Tensor& tokens, const Tensor& d_out,
                                      const Tensor& d_table) {
  Time("embedding backward", 0, [&] { inner()->EmbeddingBackward(tokens, d_out, d_table); });
}
void TimingBackend::RmsNorm(const Tensor& x, double epsilon, const Tensor& y, const Tensor& rstd) {
  Time("norm", 0, [&] { inner()->RmsNorm(x, epsilon, y, rstd); });
}
void TimingBackend::RmsNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd,
                                    const Tensor& d_x, kernels::WriteMode mode) {
  Time("norm backward", 0, [&] { inner()->RmsNormBackward(d_y, y, rstd, d_x, mode); });
}
void TimingBackend::Linear(const Tensor& x, const Tensor& w, const Tensor& y,
                           kernels::WriteMode mode) {
  Time("product", ProductFlops(y, w), [&] { inner()->Linear(x, w, y, mode); });
}
void TimingBackend::LinearBackwardInput(const Tensor& d_y, const Tensor& w, const Tensor& d_x,
                                        kernels::WriteMode mode) {
  Time("product backward, input", ProductFlops(d_y, w),
       [&] { inner()->LinearBackwardInput(d_y, w, d_x, mode); });
}
void TimingBackend::LinearBackwardWeight(const Tensor& d_y, const Tensor& x, const Tensor& d_w) {
  Time("product backward, weight", ProductFlops(d_y, d_w),
       [&] { inner()->LinearBackwardWeight(d_y, x, d_w); });
}
void TimingBackend::RopeNorm(const Tensor& x, int64_t sequence, int64_t heads, double rope_base,
                             double epsilon, const Tensor& rstd) {
  Time("rope and norm", 0,
       [&] { inner()->RopeNorm(x, sequence, heads, rope_base, epsilon, rstd); });
}
void TimingBackend::RopeNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd,
                                     int64_t sequence, int64_t heads, double rope_base) {
  Time("rope and norm backward", 0,
       [&] { inner()->RopeNormBackward(d_y, y, rstd, sequence, heads, rope_base); });
}
void TimingBackend::AttentionForward(const kernels::AttentionConfig& config,
                                     const kernels::AttentionShape& shape,
                                     const kernels::AttentionForwardArgs& args) {
  Time("attention", AttentionFlops(shape), [&] { inner()->AttentionForward(config, shape, args); });
}
void TimingBackend::AttentionBackward(const kernels::AttentionConfig& config,
                                      const kernels::AttentionShape& shape,
                                      const kernels::AttentionBackwardArgs& args) {
  Time("attention backward", 2.5 * AttentionFlops(shape),
       [&] { inner()->AttentionBackward(config, shape, args); });
}
void TimingBackend::ReluSquared(const Tensor& x, const Tensor& y) {
  Time("relu squared", 0, [&] { inner()->ReluSquared(x, y); });
}
void TimingBackend::ReluSquaredBackward(const Tensor& d_y, const Tensor& y, const Tensor& d_x) {
  Time("relu squared backward", 0, [&] { inner()->ReluSquaredBackward(d_y, y, d_x); });
}
void TimingBackend::SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& act) {
  Time("swiglu", 0, [&] { inner()->SwiGlu(gate, up, act); });
}
void TimingBackend::SwiGluBackward(const kernels::SwiGluBackwardArgs& args) {
  Time("swiglu backward", 0, [&] { inner()->SwiGluBackward(args); });
}
void TimingBackend::CrossEntropy(const kernels::CrossEntropyArgs& args) {
  const double products = args.d_x.empty() ? 1 : 3;
  const double flops =
      2 * static_cast<double>(args.x.elements()) * static_cast<double>(args.w.dim(0)) * products;
  Time("cross-entropy", flops, [&] { inner()->CrossEntropy(args); });
}
double TimingBackend::SumOfSquares(const Tensor& x) {
  double sum = 0;
  Time("sum of squares", 0, [&] { sum = inner()->SumOfSquares(x); });
  return sum;
}
void TimingBackend::AdamWAll(std::span<const kernels::AdamWArgs> all) {
  Time("adamw", 0, [&] { inner()->AdamWAll(all); });
}
void TimingBackend::MuonAll(std::span<const kernels::MuonArgs> all) {
  double flops = 0;
  for (const kernels::MuonArgs& args : all) flops += MuonFlops(args.parameter);
  Time("muon", flops, [&] { inner()->MuonAll(all); });
}

}  // namespace sinkforge::bench
