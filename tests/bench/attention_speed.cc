// One side of attention_speed.py: attention forward and backward of one sample on the CPU backend.
//
// Arguments: key=value (tokens, heads, head_dim, threads, attention, importance). importance=no
// leaves the gate's statistics and their gradient out (kernels/cpu/attention_baseline.h). Commands
// on standard input, one a line: `step` -> seconds of the forward and of the backward; `peak` ->
// the peak resident set in MiB.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "kernels/cpu/attention_baseline.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/key_values.h"

namespace sinkforge::bench {
namespace {

using kernels::AttentionVariant;
using kernels::DType;
using kernels::Tensor;

// Every tensor of one attention, filled with numbers of a normalised head's size.
class Attention {
 public:
  explicit Attention(const KeyValues& row)
      : backend_(row.Word("importance", "yes") == "no"
                     ? kernels::MakeCpuBackendWithoutImportance(Threads(row))
                     : kernels::MakeCpuBackend(Threads(row))) {
    const std::string attention = row.Word("attention", "vanilla");
    if (attention == "sink") config_.variant = AttentionVariant::kSink;
    if (attention == "gated") config_.variant = AttentionVariant::kGated;
    shape_ = {1, row.Number("tokens"), row.Number("heads"), row.Number("heads"),
              row.Number("head_dim")};
    const int64_t rows = shape_.sequence;
    const int64_t width = shape_.heads * shape_.head_dim;
    for (Tensor* tensor : {&forward_.q, &forward_.k, &forward_.v, &forward_.out, &backward_.d_out,
                           &backward_.d_q, &backward_.d_k, &backward_.d_v}) {
      *tensor = Make({rows, width}, DType::kF32);
    }
    for (Tensor* tensor : {&forward_.gate_logits, &backward_.d_gate_logits}) {
      *tensor = Make({rows, shape_.heads}, DType::kF32);
    }
    for (Tensor* tensor : {&forward_.lse, &forward_.gate}) {
      *tensor = Make({1, shape_.heads, rows}, DType::kF32);
    }
    for (Tensor* tensor : {&forward_.sinks, &backward_.d_sinks}) {
      *tensor = Make({shape_.heads}, DType::kF32);
    }
    for (Tensor* tensor : {&forward_.importance_sum, &backward_.importance_gradient}) {
      *tensor = Make({shape_.heads}, DType::kF64);
    }
    for (const Tensor& tensor : {forward_.q, forward_.k, forward_.v, backward_.d_out}) Fill(tensor);
    backward_.q = forward_.q;
    backward_.k = forward_.k;
    backward_.v = forward_.v;
    backward_.sinks = forward_.sinks;
    backward_.gate_logits = forward_.gate_logits;
    backward_.out = forward_.out;
    backward_.lse = forward_.lse;
    backward_.gate = forward_.gate;
  }

  double Forward() {
    return Seconds([&] { backend_->AttentionForward(config_, shape_, forward_); });
  }
  double Backward() {
    return Seconds([&] { backend_->AttentionBackward(config_, shape_, backward_); });
  }

 private:
  static int Threads(const KeyValues& row) { return static_cast<int>(row.Number("threads")); }

  Tensor Make(std::initializer_list<int64_t> dims, DType dtype) {
    Tensor tensor(nullptr, dtype, dims);
    tensor.data = backend_->Allocate(tensor.bytes());  // until the process ends
    return tensor;
  }

  void Fill(const Tensor& tensor) {
    uint64_t bits = ++fills_;
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      bits = bits * 6364136223846793005ULL + 1442695040888963407ULL;
      tensor.as<float>()[i] = static_cast<float>(bits >> 40) / (1 << 23) - 1.0F;
    }
  }

  template <typename Op>
  static double Seconds(const Op& op) {
    const auto start = std::chrono::steady_clock::now();
    op();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  std::unique_ptr<kernels::Backend> backend_;
  kernels::AttentionConfig config_;
  kernels::AttentionShape shape_;
  kernels::AttentionForwardArgs forward_;
  kernels::AttentionBackwardArgs backward_;
  uint64_t fills_ = 0;
};

int Run(int argc, char** argv) {
  const KeyValues row("attention_speed", argc, argv);
  Attention attention(row);
  std::string command;
  while (std::getline(std::cin, command)) {
    if (command == "step") {
      const double forward = attention.Forward();
      std::printf("%.6f %.6f\n", forward, attention.Backward());
    } else if (command == "peak") {
      std::printf("%.1f\n", PeakResidentMebibytes());
    } else {
      row.Fail("unknown command " + command);
    }
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace sinkforge::bench

int main(int argc, char** argv) { return sinkforge::bench::Run(argc, argv); }
