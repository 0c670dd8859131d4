// Element by element: relu^2, SwiGLU, rounding; counts of the largest gate; sums in two stages, of
// a fixed number of blocks and then of one, so that their order never changes.
#include "kernels/cuda/ops.h"

namespace sinkforge::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kBlocksMax = 132 * 16;  // enough for every multiprocessor of the largest device

LaunchShape Spread(int64_t items) {
  const int64_t blocks = (items + kThreads - 1) / kThreads;
  return {dim3(static_cast<unsigned>(blocks < kBlocksMax ? blocks : kBlocksMax)), kThreads, 0};
}

__device__ int64_t First() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ int64_t Stride() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

template <typename T>
__global__ void ReluSquaredKernel(const T* x, int64_t n, T* y) {
  constexpr int kWidth = Vector<T>::kWidth;
  for (int64_t i = First(); i < n / kWidth; i += Stride()) {
    Vector<T> values = reinterpret_cast<const Vector<T>*>(x)[i];
#pragma unroll
    for (T& value : values.at) {
      const float positive = fmaxf(ToFloat(value), 0.0F);
      value = FromFloat<T>(positive * positive);
    }
    reinterpret_cast<Vector<T>*>(y)[i] = values;
  }
  for (int64_t i = n / kWidth * kWidth + First(); i < n; i += Stride()) {
    const float positive = fmaxf(ToFloat(x[i]), 0.0F);
    y[i] = FromFloat<T>(positive * positive);
  }
}

template <typename T>
__device__ __forceinline__ T ReluSquaredSlope(T d_y, T y) {
  return FromFloat<T>(ToFloat(d_y) * 2.0F * sqrtf(ToFloat(y)));
}

template <typename T>
__global__ void ReluSquaredBackwardKernel(const T* d_y, const T* y, int64_t n, T* d_x) {
  constexpr int kWidth = Vector<T>::kWidth;
  for (int64_t i = First(); i < n / kWidth; i += Stride()) {
    Vector<T> d = reinterpret_cast<const Vector<T>*>(d_y)[i];
    const Vector<T> out = reinterpret_cast<const Vector<T>*>(y)[i];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) d.at[c] = ReluSquaredSlope(d.at[c], out.at[c]);
    reinterpret_cast<Vector<T>*>(d_x)[i] = d;
  }
  for (int64_t i = n / kWidth * kWidth + First(); i < n; i += Stride()) {
    d_x[i] = ReluSquaredSlope(d_y[i], y[i]);
  }
}

template <typename T>
__global__ void SwiGluKernel(const T* gate, const T* up, int64_t n, T* act) {
  constexpr int kWidth = Vector<T>::kWidth;
  for (int64_t i = First(); i < n / kWidth; i += Stride()) {
    const Vector<T> a = reinterpret_cast<const Vector<T>*>(gate)[i];
    Vector<T> u = reinterpret_cast<const Vector<T>*>(up)[i];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) {
      u.at[c] = FromFloat<T>(SwiGluOf(ToFloat(a.at[c]), ToFloat(u.at[c])));
    }
    reinterpret_cast<Vector<T>*>(act)[i] = u;
  }
  for (int64_t i = n / kWidth * kWidth + First(); i < n; i += Stride()) {
    act[i] = FromFloat<T>(SwiGluOf(ToFloat(gate[i]), ToFloat(up[i])));
  }
}

// A thread reads its elements before it writes any, and no other thread has them: the outputs may
// lie where the inputs do. Six times n elements move.
template <typename T>
__global__ void SwiGluBackwardKernel(SwiGluBackwardKernelArgs<T> args) {
  constexpr int kWidth = Vector<T>::kWidth;
  const int64_t vectors = args.n / kWidth;
  const auto change = [](T* d_act, T* gate, T* up) {
    const SwiGluGradients g = SwiGluGradientsOf(ToFloat(*d_act), ToFloat(*gate), ToFloat(*up));
    *d_act = FromFloat<T>(g.act);
    *gate = FromFloat<T>(g.d_gate);
    *up = FromFloat<T>(g.d_up);
  };
  for (int64_t i = First(); i < vectors; i += Stride()) {
    Vector<T> d = reinterpret_cast<const Vector<T>*>(args.d_act)[i];
    Vector<T> a = reinterpret_cast<const Vector<T>*>(args.gate)[i];
    Vector<T> u = reinterpret_cast<const Vector<T>*>(args.up)[i];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) change(&d.at[c], &a.at[c], &u.at[c]);
    reinterpret_cast<Vector<T>*>(args.d_gate)[i] = a;
    reinterpret_cast<Vector<T>*>(args.d_up)[i] = u;
    reinterpret_cast<Vector<T>*>(args.act)[i] = d;
  }
  for (int64_t i = vectors * kWidth + First(); i < args.n; i += Stride()) {
    T d = args.d_act[i], a = args.gate[i], u = args.up[i];
    change(&d, &a, &u);
    args.d_gate[i] = a;
    args.d_up[i] = u;
    args.act[i] = d;
  }
}

__global__ void RoundKernel(const float* from, int64_t n, Bf16* to) {
  constexpr int kWidth = Vector<Bf16>::kWidth;
  constexpr int kHalf = Vector<float>::kWidth;
  const int64_t vectors = VectorsOf<kWidth>(n, from, to);
  for (int64_t i = First(); i < vectors; i += Stride()) {
    const Vector<float> low = reinterpret_cast<const Vector<float>*>(from)[2 * i];
    const Vector<float> high = reinterpret_cast<const Vector<float>*>(from)[2 * i + 1];
    Vector<Bf16> rounded;
#pragma unroll
    for (int c = 0; c < kHalf; ++c) {
      rounded.at[c] = FromFloat<Bf16>(low.at[c]);
      rounded.at[c + kHalf] = FromFloat<Bf16>(high.at[c]);
    }
    reinterpret_cast<Vector<Bf16>*>(to)[i] = rounded;
  }
  for (int64_t i = vectors * kWidth + First(); i < n; i += Stride()) {
    to[i] = FromFloat<Bf16>(from[i]);
  }
}

// A block a head counts the positions at which it wins; every gate is read by every block, from the
// cache. Integers, so that the order does not matter.
__global__ void GateArgmaxKernel(const float* gate, int batch, int heads, int sequence,
                                 double* counts) {
  const int h = static_cast<int>(blockIdx.x);
  double wins = 0.0;
  const int64_t positions = static_cast<int64_t>(batch) * sequence;
  for (int64_t i = threadIdx.x; i < positions; i += blockDim.x) {
    const float* gates = gate + i / sequence * heads * sequence + i % sequence;
    const float own = gates[static_cast<int64_t>(h) * sequence];
    bool largest = true;
    for (int other = 0; other < heads; ++other) {
      const float value = gates[static_cast<int64_t>(other) * sequence];
      // A tie goes to the lower index.
      largest = largest && (other < h ? value < own : value <= own);
    }
    wins += largest ? 1.0 : 0.0;
  }
  wins = BlockSum(wins, reinterpret_cast<double*>(SharedMemory()));
  if (threadIdx.x == 0) counts[h] += wins;
}

template <typename T>
__global__ void PartialSumsKernel(Reduction reduction, const T* x, int64_t n, double* partials) {
  constexpr int kWidth = Vector<T>::kWidth;
  const int64_t vectors = VectorsOf<kWidth>(n, x);
  double sum = 0.0;
  const auto add = [&](T element) {
    const auto value = static_cast<double>(ToFloat(element));
    sum += reduction == Reduction::kSum ? value : value * value;
  };
#pragma unroll 4
  for (int64_t i = First(); i < vectors; i += Stride()) {
    const Vector<T> values = reinterpret_cast<const Vector<T>*>(x)[i];
#pragma unroll
    for (const T value : values.at) add(value);
  }
  for (int64_t i = vectors * kWidth + First(); i < n; i += Stride()) add(x[i]);
  sum = BlockSum(sum, reinterpret_cast<double*>(SharedMemory()));
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void AddPartialsKernel(const double* partials, int count, double* sum) {
  double total = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    total += partials[i];
  }
  total = BlockSum(total, reinterpret_cast<double*>(SharedMemory()));
  if (threadIdx.x == 0) *sum = total;
}

constexpr size_t kScratchBytes = kThreads / kWarpThreads * sizeof(double);

}  // namespace

template <typename T>
void LaunchReluSquared(const T* x, int64_t n, T* y, cudaStream_t stream) {
  Launch(ReluSquaredKernel<T>, Spread(n / Vector<T>::kWidth + 1), stream, x, n, y);
}
template <typename T>
void LaunchReluSquaredBackward(const T* d_y, const T* y, int64_t n, T* d_x, cudaStream_t stream) {
  Launch(ReluSquaredBackwardKernel<T>, Spread(n / Vector<T>::kWidth + 1), stream, d_y, y, n, d_x);
}
template <typename T>
void LaunchSwiGlu(const T* gate, const T* up, int64_t n, T* act, cudaStream_t stream) {
  Launch(SwiGluKernel<T>, Spread(n / Vector<T>::kWidth + 1), stream, gate, up, n, act);
}
template <typename T>
void LaunchSwiGluBackward(const SwiGluBackwardKernelArgs<T>& args, cudaStream_t stream) {
  Launch(SwiGluBackwardKernel<T>, Spread(args.n / Vector<T>::kWidth + 1), stream, args);
}
void LaunchRound(const float* from, int64_t n, Bf16* to, cudaStream_t stream) {
  Launch(RoundKernel, Spread(n / Vector<Bf16>::kWidth + 1), stream, from, n, to);
}

void LaunchGateArgmaxCounts(const float* gate, int batch, int heads, int sequence, double* counts,
                            cudaStream_t stream) {
  Launch(GateArgmaxKernel, {dim3(static_cast<unsigned>(heads)), kThreads, kScratchBytes}, stream,
         gate, batch, heads, sequence, counts);
}

template <typename T>
void LaunchReduction(Reduction reduction, const T* x, int64_t n, double* partials, double* sum,
                     cudaStream_t stream) {
  Launch(PartialSumsKernel<T>, {dim3(kReductionBlocks), kThreads, kScratchBytes}, stream, reduction,
         x, n, partials);
  Launch(AddPartialsKernel, {dim3(1), kThreads, kScratchBytes}, stream, partials, kReductionBlocks,
         sum);
}

#define SINKFORGE_ELEMENTWISE(T)                                                             \
  template void LaunchReluSquared<T>(const T*, int64_t, T*, cudaStream_t);                   \
  template void LaunchReluSquaredBackward<T>(const T*, const T*, int64_t, T*, cudaStream_t); \
  template void LaunchSwiGlu<T>(const T*, const T*, int64_t, T*, cudaStream_t);              \
  template void LaunchSwiGluBackward<T>(const SwiGluBackwardKernelArgs<T>&, cudaStream_t);   \
  template void LaunchReduction<T>(Reduction, const T*, int64_t, double*, double*, cudaStream_t)
SINKFORGE_ELEMENTWISE(float);
SINKFORGE_ELEMENTWISE(Bf16);
#undef SINKFORGE_ELEMENTWISE

}  // namespace sinkforge::kernels::cuda
