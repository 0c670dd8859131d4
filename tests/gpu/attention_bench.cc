// Times attention forward and backward, with gate, importance and the gradient of the loss inside,
// and a plain matrix product as the ceiling of the card. One CSV line a shape, variant and path of
// kernels (`kernels=hopper` or `kernels=tensor_cores`): TFLOP/s counts 2 T^2 d a head for the
// causal forward and 2.5 times that for the backward, in a fixed order and, where the path has it,
// in any.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/bench/paired_ratio.h"
#include "tests/gpu/arguments.h"
#include "worker/trainer/core/stopwatch.h"

namespace sinkforge::gpu {
namespace {

using namespace kernels;  // NOLINT(google-build-using-namespace): a program, not a library

constexpr int kRepeats = 21;
constexpr double kWarmUpSeconds = 0.1;  // a card at rest is at a fraction of its clock
constexpr size_t kClearedBytes = size_t{1} << 30;

// Ends the program: a time measured beside a failed call would be none.
void Check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "error: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

// Normal numbers: zeros run faster than real data. Few are drawn, for drawing takes longer than
// all measurements; their count is a prime, so that no two rows of a tensor are the same.
std::vector<float> NormalNumbers() {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(1048573);
  for (float& number : numbers) number = normal(random);
  return numbers;
}

std::vector<uint16_t> NarrowNormalNumbers() {
  const std::vector<float> numbers = NormalNumbers();
  std::vector<uint16_t> narrow(numbers.size());
  std::transform(numbers.begin(), numbers.end(), narrow.begin(), RoundToBfloat16);
  return narrow;
}

// `numbers` over and over, from the one at `first` on.
template <typename T>
std::vector<T> Repeat(const std::vector<T>& numbers, size_t first, int64_t count) {
  std::vector<T> values;
  values.reserve(static_cast<size_t>(count));
  for (size_t at = first; values.size() < values.capacity(); at = 0) {
    const size_t length = std::min(numbers.size() - at, values.capacity() - values.size());
    const auto begin = numbers.begin() + static_cast<std::ptrdiff_t>(at);
    values.insert(values.end(), begin, begin + static_cast<std::ptrdiff_t>(length));
  }
  return values;
}

class DeviceTensor {
 public:
  DeviceTensor(Backend* backend, DType dtype, std::initializer_list<int64_t> dims)
      : backend_(backend), tensor_(nullptr, dtype, dims) {
    static const std::vector<float> wide = NormalNumbers();
    static const std::vector<uint16_t> narrow = NarrowNormalNumbers();
    tensor_.data = backend->Allocate(tensor_.bytes());
    SINKFORGE_CHECK(tensor_.data != nullptr);
    const int64_t count = tensor_.elements();
    const size_t first = ++made * 7919 % wide.size();  // other numbers in every tensor
    if (dtype == DType::kF64) {  // sums, and a gradient as small as the loss's
      backend->CopyFromHost(tensor_, std::vector<double>(static_cast<size_t>(count), 1e-6).data());
    } else if (dtype == DType::kF32) {
      backend->CopyFromHost(tensor_, Repeat(wide, first, count).data());
    } else {
      backend->CopyFromHost(tensor_, Repeat(narrow, first, count).data());
    }
  }
  ~DeviceTensor() { backend_->Free(tensor_.data); }
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;
  const Tensor& operator*() const { return tensor_; }

 private:
  static inline uint64_t made = 0;
  Backend* backend_;
  Tensor tensor_;
};

// Times runs by the device's events, as peers.py does: the median of kRepeats single runs, after
// some that bring the card to its clock. Before each a buffer larger than the cache is cleared, so
// that no run finds its data there, and the host has launched it before the device comes to it. The
// stream of the backend is an ordinary one, so what is told to the default stream encloses it.
class Timer {
 public:
  Timer() {
    Check(cudaMalloc(&cleared_, kClearedBytes));
    Check(cudaEventCreate(&begin_));
    Check(cudaEventCreate(&end_));
  }
  ~Timer() {
    cudaFree(cleared_);
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  double MedianSeconds(const std::function<void()>& run) {
    const trainer::Stopwatch stopwatch;
    do {
      Once(run);
    } while (stopwatch.Seconds() < kWarmUpSeconds);
    std::vector<double> seconds;
    for (int i = 0; i < kRepeats; ++i) seconds.push_back(Once(run));
    return bench::Median(seconds);
  }

 private:
  double Once(const std::function<void()>& run) {
    Check(cudaMemsetAsync(cleared_, 0, kClearedBytes, cudaStreamLegacy));
    Check(cudaEventRecord(begin_, cudaStreamLegacy));
    run();
    Check(cudaEventRecord(end_, cudaStreamLegacy));
    Check(cudaEventSynchronize(end_));
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return static_cast<double>(milliseconds) * 1e-3;
  }

  void* cleared_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

void BenchProduct(Backend* backend, Timer* timer) {
  constexpr int64_t kSize = 8192;
  const DeviceTensor a(backend, DType::kBF16, {kSize, kSize});
  const DeviceTensor b(backend, DType::kBF16, {kSize, kSize});
  const DeviceTensor c(backend, DType::kBF16, {kSize, kSize});
  const double seconds =
      timer->MedianSeconds([&] { backend->Linear(*a, *b, *c, WriteMode::kAssign); });
  const double flop = 2.0 * kSize * kSize * kSize;
  std::printf("product,%lld,,,%.1f,,\n", static_cast<long long>(kSize), flop / seconds * 1e-12);
}

struct Shape {
  int64_t tokens, sequence, width, head_dim;
};

// On one device, so that each may use the other's tensors.
struct Backends {
  std::unique_ptr<Backend> fixed_order;
  std::unique_ptr<Backend> any_order;  // null: the path has none
};

void BenchAttention(const Backends& backends, const Shape& s, const std::string& name,
                    const AttentionConfig& config, Timer* timer) {
  Backend* backend = backends.fixed_order.get();
  const int64_t heads = s.width / s.head_dim;
  const AttentionShape shape = {s.tokens / s.sequence, s.sequence, heads, heads, s.head_dim};
  const DeviceTensor q(backend, DType::kBF16, {s.tokens, s.width});
  const DeviceTensor k(backend, DType::kBF16, {s.tokens, s.width});
  const DeviceTensor v(backend, DType::kBF16, {s.tokens, s.width});
  const DeviceTensor d_out(backend, DType::kBF16, {s.tokens, s.width});
  const DeviceTensor out(backend, DType::kBF16, {s.tokens, s.width});
  const DeviceTensor d_q(backend, DType::kBF16, {s.tokens, s.width});
  const DeviceTensor d_k(backend, DType::kBF16, {s.tokens, s.width});
  const DeviceTensor d_v(backend, DType::kBF16, {s.tokens, s.width});
  const DeviceTensor logits(backend, DType::kBF16, {s.tokens, heads});
  const DeviceTensor d_logits(backend, DType::kBF16, {s.tokens, heads});
  const DeviceTensor lse(backend, DType::kF32, {shape.batch, heads, s.sequence});
  const DeviceTensor gate(backend, DType::kF32, {shape.batch, heads, s.sequence});
  const DeviceTensor sinks(backend, DType::kF32, {heads});
  const DeviceTensor d_sinks(backend, DType::kF32, {heads});
  const DeviceTensor sums(backend, DType::kF64, {heads});
  const DeviceTensor g(backend, DType::kF64, {heads});
  AttentionForwardArgs forward;
  forward.q = *q;
  forward.k = *k;
  forward.v = *v;
  forward.sinks = *sinks;
  forward.gate_logits = *logits;
  forward.out = *out;
  forward.lse = *lse;
  forward.gate = *gate;
  forward.importance_sum = *sums;
  AttentionBackwardArgs backward;
  backward.q = *q;
  backward.k = *k;
  backward.v = *v;
  backward.sinks = *sinks;
  backward.gate_logits = *logits;
  backward.out = *out;
  backward.lse = *lse;
  backward.gate = *gate;
  backward.d_out = *d_out;
  backward.importance_gradient = *g;
  backward.d_q = *d_q;
  backward.d_k = *d_k;
  backward.d_v = *d_v;
  backward.d_sinks = *d_sinks;
  backward.d_gate_logits = *d_logits;
  const double there =
      timer->MedianSeconds([&] { backend->AttentionForward(config, shape, forward); });
  const double back =
      timer->MedianSeconds([&] { backend->AttentionBackward(config, shape, backward); });
  const double flop = 2.0 * static_cast<double>(s.tokens) * static_cast<double>(s.sequence) *
                      static_cast<double>(s.width);
  std::printf("ours,%s,%lld,%lld,%.1f,%.1f,", name.c_str(), static_cast<long long>(s.sequence),
              static_cast<long long>(s.head_dim), flop / there * 1e-12, 2.5 * flop / back * 1e-12);
  if (backends.any_order != nullptr) {
    const double any = timer->MedianSeconds(
        [&] { backends.any_order->AttentionBackward(config, shape, backward); });
    std::printf("%.1f", 2.5 * flop / any * 1e-12);
  }
  std::printf("\n");
  std::fflush(stdout);
}

std::unique_ptr<Backend> Make(CudaAttention kernels, CudaGradientOrder order) {
  CudaBackendOptions options;
  options.attention = kernels;
  options.gradient_order = order;
  auto backend = MakeCudaBackend(options);
  if (backend.ok()) return std::move(backend).value();
  std::fprintf(stderr, "error: %s\n", backend.status().message().c_str());
  std::exit(1);
}

int Run(const Arguments& arguments) {
  const CudaAttention kernels = arguments.Kernels("kernels");
  Backends backends;
  backends.fixed_order = Make(kernels, CudaGradientOrder::kFixed);
  if (kernels == CudaAttention::kTensorCores) {
    backends.any_order = Make(kernels, CudaGradientOrder::kAny);
  }
  std::printf(
      "who,what,sequence,head_dim,forward_tflops,backward_tflops,backward_any_order_tflops\n");
  Timer timer;
  BenchProduct(backends.fixed_order.get(), &timer);
  AttentionConfig vanilla;
  AttentionConfig sink;
  sink.variant = AttentionVariant::kSink;
  AttentionConfig gated;
  gated.variant = AttentionVariant::kGated;
  const std::string path = "_" + arguments.Text("kernels");
  const int64_t tokens = arguments.Integer("tokens");
  const int64_t width = arguments.Integer("width");
  for (const int64_t head_dim : {int64_t{64}, int64_t{128}}) {
    for (const int64_t sequence : {2048, 4096, 8192, 16384}) {
      const Shape shape = {tokens, sequence, width, head_dim};
      BenchAttention(backends, shape, "vanilla" + path, vanilla, &timer);
      BenchAttention(backends, shape, "sink" + path, sink, &timer);
      BenchAttention(backends, shape, "gated" + path, gated, &timer);
    }
  }
  return 0;
}

}  // namespace
}  // namespace sinkforge::gpu

int main(int argc, char** argv) {
  const sinkforge::gpu::Arguments arguments(
      argc, argv, {{"kernels", "tensor_cores"}, {"tokens", "16384"}, {"width", "2048"}});
  return sinkforge::gpu::Run(arguments);
}
