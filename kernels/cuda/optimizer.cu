// AdamW over many tensors in one launch, and the element-wise parts of Muon; its products are the
// matrix library's. Formulas: kernels/formulas.h and kernels/newton_schulz.h.
#include "kernels/cuda/ops.h"
#include "kernels/newton_schulz.h"

namespace sinkforge::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kBlocksMax = 132 * 8;  // eight blocks for every multiprocessor

__device__ int64_t First() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ int64_t Stride() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

// For n elements, most of them in vectors.
unsigned Blocks(int64_t n) {
  const int64_t blocks = n / (Vector<float>::kWidth * kThreads) + 1;
  return static_cast<unsigned>(blocks < kBlocksMax ? blocks : kBlocksMax);
}

struct AdamWTable {
  AdamWTensor tensors[kAdamWTensorsMax];
};
static_assert(sizeof(AdamWTable) <= 4096);  // what a kernel takes as parameters

__global__ void AdamWKernel(AdamWTable table) {
  const AdamWTensor& t = table.tensors[blockIdx.y];
  constexpr int kWidth = Vector<float>::kWidth;
  const int64_t vectors = VectorsOf<kWidth>(t.n, t.parameter, t.gradient, t.m, t.v);
  for (int64_t i = First(); i < vectors; i += Stride()) {
    const Vector<float> g = reinterpret_cast<const Vector<float>*>(t.gradient)[i];
    Vector<float> p = reinterpret_cast<Vector<float>*>(t.parameter)[i];
    Vector<float> m = reinterpret_cast<Vector<float>*>(t.m)[i];
    Vector<float> v = reinterpret_cast<Vector<float>*>(t.v)[i];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) {
      AdamWUpdate(t.scalars, g.at[c], &p.at[c], &m.at[c], &v.at[c]);
    }
    reinterpret_cast<Vector<float>*>(t.parameter)[i] = p;
    reinterpret_cast<Vector<float>*>(t.m)[i] = m;
    reinterpret_cast<Vector<float>*>(t.v)[i] = v;
  }
  for (int64_t i = vectors * kWidth + First(); i < t.n; i += Stride()) {
    AdamWUpdate(t.scalars, t.gradient[i], &t.parameter[i], &t.m[i], &t.v[i]);
  }
}

// As many elements as a vector of float32 has.
template <typename T>
struct alignas(4 * sizeof(T)) Four {
  T at[4];
};

struct MuonScalars {
  float gradient_scale, momentum, one_minus_momentum;
};

__global__ void MuonMomentumKernel(const float* gradient, MuonScalars scalars, int64_t n,
                                   float* buffer, float* x, double* partials) {
  constexpr int kWidth = Vector<float>::kWidth;
  const int64_t vectors = VectorsOf<kWidth>(n, gradient, buffer, x);
  double square = 0.0;
  const auto update = [&](float g, float* momentum) {
    const float ahead = MuonMomentumUpdate(g * scalars.gradient_scale, scalars.momentum,
                                           scalars.one_minus_momentum, momentum);
    square += static_cast<double>(ahead) * static_cast<double>(ahead);
    return ahead;
  };
  for (int64_t i = First(); i < vectors; i += Stride()) {
    Vector<float> g = reinterpret_cast<const Vector<float>*>(gradient)[i];
    Vector<float> momentum = reinterpret_cast<Vector<float>*>(buffer)[i];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) g.at[c] = update(g.at[c], &momentum.at[c]);
    reinterpret_cast<Vector<float>*>(buffer)[i] = momentum;
    reinterpret_cast<Vector<float>*>(x)[i] = g;
  }
  for (int64_t i = vectors * kWidth + First(); i < n; i += Stride()) {
    x[i] = update(gradient[i], &buffer[i]);
  }
  square = BlockSum(square, reinterpret_cast<double*>(SharedMemory()));
  if (threadIdx.x == 0) partials[blockIdx.x] = square;
}

template <typename T>
__global__ void MuonNormaliseKernel(const float* x, const double* partials, int64_t n, T* y) {
  double square = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < kReductionBlocks;
       i += static_cast<int>(blockDim.x)) {
    square += partials[i];
  }
  square = BlockSum(square, reinterpret_cast<double*>(SharedMemory()));
  const float norm = static_cast<float>(sqrt(square)) + static_cast<float>(kNewtonSchulzEpsilon);
  constexpr int kWidth = Vector<float>::kWidth;
  const int64_t vectors = VectorsOf<kWidth>(n, x, y);
  for (int64_t i = First(); i < vectors; i += Stride()) {
    const Vector<float> values = reinterpret_cast<const Vector<float>*>(x)[i];
    Four<T> to;
#pragma unroll
    for (int c = 0; c < kWidth; ++c) to.at[c] = FromFloat<T>(values.at[c] / norm);
    reinterpret_cast<Four<T>*>(y)[i] = to;
  }
  for (int64_t i = vectors * kWidth + First(); i < n; i += Stride()) {
    y[i] = FromFloat<T>(x[i] / norm);
  }
}

template <typename T>
__global__ void MuonUpdateKernel(const T* x, int64_t n, float rate, float* parameter) {
  constexpr int kWidth = Vector<float>::kWidth;
  const int64_t vectors = VectorsOf<kWidth>(n, x, parameter);
  for (int64_t i = First(); i < vectors; i += Stride()) {
    const Four<T> step = reinterpret_cast<const Four<T>*>(x)[i];
    Vector<float> values = reinterpret_cast<Vector<float>*>(parameter)[i];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) values.at[c] -= rate * ToFloat(step.at[c]);
    reinterpret_cast<Vector<float>*>(parameter)[i] = values;
  }
  for (int64_t i = vectors * kWidth + First(); i < n; i += Stride()) {
    parameter[i] -= rate * ToFloat(x[i]);
  }
}

constexpr size_t kScratchBytes = kThreads / kWarpThreads * sizeof(double);

}  // namespace

void LaunchAdamW(const AdamWTensor* tensors, int count, cudaStream_t stream) {
  for (int first = 0; first < count; first += kAdamWTensorsMax) {
    const int some = count - first < kAdamWTensorsMax ? count - first : kAdamWTensorsMax;
    AdamWTable table;
    int64_t longest = 1;
    for (int i = 0; i < some; ++i) {
      table.tensors[i] = tensors[first + i];
      if (table.tensors[i].n > longest) longest = table.tensors[i].n;
    }
    Launch(AdamWKernel, {dim3(Blocks(longest), static_cast<unsigned>(some)), kThreads, 0}, stream,
           table);
  }
}

void LaunchMuonMomentum(const float* gradient, const MuonArgs& args, int64_t n, float* buffer,
                        float* x, double* partials, cudaStream_t stream) {
  const MuonScalars scalars{static_cast<float>(args.gradient_scale),
                            static_cast<float>(args.momentum),
                            static_cast<float>(1.0 - args.momentum)};
  Launch(MuonMomentumKernel, {dim3(kReductionBlocks), kThreads, kScratchBytes}, stream, gradient,
         scalars, n, buffer, x, partials);
}

template <typename T>
void LaunchMuonNormalise(const float* x, const double* partials, int64_t n, T* y,
                         cudaStream_t stream) {
  Launch(MuonNormaliseKernel<T>, {dim3(Blocks(n)), kThreads, kScratchBytes}, stream, x, partials, n,
         y);
}
template <typename T>
void LaunchMuonUpdate(const T* x, int64_t n, float rate, float* parameter, cudaStream_t stream) {
  Launch(MuonUpdateKernel<T>, {dim3(Blocks(n)), kThreads, 0}, stream, x, n, rate, parameter);
}

#define SINKFORGE_MUON(T)                                                                       \
  template void LaunchMuonNormalise<T>(const float*, const double*, int64_t, T*, cudaStream_t); \
  template void LaunchMuonUpdate<T>(const T*, int64_t, float, float*, cudaStream_t)
SINKFORGE_MUON(float);
SINKFORGE_MUON(Bf16);
#undef SINKFORGE_MUON

}  // namespace sinkforge::kernels::cuda
