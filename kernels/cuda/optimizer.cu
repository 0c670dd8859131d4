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

unsigned Blocks(int64_t n) {
  const int64_t blocks = (n + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < kBlocksMax ? blocks : kBlocksMax);
}

struct AdamWTable {
  AdamWTensor tensors[kAdamWTensorsMax];
};
static_assert(sizeof(AdamWTable) <= 4096);  // what a kernel takes as parameters

__global__ void AdamWKernel(AdamWTable table) {
  const AdamWTensor& t = table.tensors[blockIdx.y];
  for (int64_t i = First(); i < t.n; i += Stride()) {
    AdamWUpdate(t.scalars, t.gradient[i], &t.parameter[i], &t.m[i], &t.v[i]);
  }
}

struct MuonScalars {
  float gradient_scale, momentum, one_minus_momentum;
};

__global__ void MuonMomentumKernel(const float* gradient, MuonScalars scalars, int64_t n,
                                   float* buffer, float* x, double* partials) {
  double square = 0.0;
  for (int64_t i = First(); i < n; i += Stride()) {
    const float ahead = MuonMomentumUpdate(gradient[i] * scalars.gradient_scale, scalars.momentum,
                                           scalars.one_minus_momentum, &buffer[i]);
    x[i] = ahead;
    square += static_cast<double>(ahead) * static_cast<double>(ahead);
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
  for (int64_t i = First(); i < n; i += Stride()) y[i] = FromFloat<T>(x[i] / norm);
}

template <typename T>
__global__ void MuonUpdateKernel(const T* x, int64_t n, float rate, float* parameter) {
  for (int64_t i = First(); i < n; i += Stride()) parameter[i] -= rate * ToFloat(x[i]);
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
