// Softcapped cross-entropy of rows of logits, and its gradient by them, a block a row:
//
//   z = softcap(l); loss = log sum exp(z) - z[target]; d_l = scale (softmax(z) - [target]) z'(l)
//
// Two readings of the row (the second for the gradient) and one writing; sums in float32, threads'
// parts merged in a fixed order. There are so many logits that their arithmetic would take longer
// than their bytes: it is done in units of log2, with one exponential and one reciprocal for the
// softcap and one exponential for the softmax.
#include <cfloat>
#include <type_traits>

#include "kernels/cuda/ops.h"
#include "kernels/cuda/ptx.h"

namespace sinkforge::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kWidth = 8;  // logits that a thread takes at once: 16 bytes of bfloat16

// Of bfloat16 logits, tanh(x) = 1 - 2 r with r = 1 / (1 + exp(2 x)): its error is of about the size
// of one's last place, also where x is small, which is far below what rounding the logit left.
struct CappedLogit {
  float z = 0.0F;      // in units of log2
  float slope = 1.0F;  // z'(l)
};
template <typename T, bool kCapped>
__device__ __forceinline__ CappedLogit Cap(float logit, float cap) {
  CappedLogit capped;
  if constexpr (!kCapped) {
    capped.z = logit * kLog2E;
  } else if constexpr (std::is_same_v<T, float>) {
    const float t = tanhf(logit / cap);
    capped.z = cap * kLog2E * t;
    capped.slope = 1.0F - t * t;
  } else {
    const float r = Reciprocal(1.0F + Exp2(logit * (2.0F * kLog2E / cap)));
    capped.z = cap * kLog2E - 2.0F * cap * kLog2E * r;
    capped.slope = 4.0F * r * (1.0F - r);
  }
  return capped;
}

// The running maximum and the sum of 2^(z - maximum). It starts with a number and not with minus
// infinity: the difference of two infinities would not be one.
struct RowSum {
  float maximum = -FLT_MAX;
  float sum = 0.0F;

  template <int kCount>
  __device__ __forceinline__ void Add(const float (&z)[kCount]) {
    float next = maximum;
#pragma unroll
    for (const float value : z) next = fmaxf(next, value);
    sum *= Exp2(maximum - next);
#pragma unroll
    for (const float value : z) sum += Exp2(value - next);
    maximum = next;
  }
};

// The largest of a block of whole warps, in every thread.
__device__ float BlockMaximum(float value, float* scratch) {
  for (int lane = kWarpThreads / 2; lane > 0; lane /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, lane));
  }
  __syncthreads();
  if (threadIdx.x % kWarpThreads == 0) scratch[threadIdx.x / kWarpThreads] = value;
  __syncthreads();
  float largest = scratch[0];
  for (unsigned i = 1; i < blockDim.x / kWarpThreads; ++i) largest = fmaxf(largest, scratch[i]);
  return largest;
}

__device__ __forceinline__ void LoadLogits(const float* from, float (&to)[kWidth]) {
  constexpr int kHalf = Vector<float>::kWidth;
  const Vector<float> low = reinterpret_cast<const Vector<float>*>(from)[0];
  const Vector<float> high = reinterpret_cast<const Vector<float>*>(from)[1];
#pragma unroll
  for (int c = 0; c < kHalf; ++c) {
    to[c] = low.at[c];
    to[c + kHalf] = high.at[c];
  }
}

template <typename T>
__device__ __forceinline__ void StoreGradients(const float (&from)[kWidth], T* to) {
  constexpr int kPart = Vector<T>::kWidth;
#pragma unroll
  for (int part = 0; part < kWidth / kPart; ++part) {
    Vector<T> values;
#pragma unroll
    for (int c = 0; c < kPart; ++c) values.at[c] = FromFloat<T>(from[part * kPart + c]);
    reinterpret_cast<Vector<T>*>(to)[part] = values;
  }
}

template <typename T, bool kCapped>
__global__ void CrossEntropyKernel(CrossEntropyKernelArgs<T> args) {
  auto* scratch = reinterpret_cast<float*>(SharedMemory());
  const int64_t row = blockIdx.x;
  const float* logits = args.logits + row * args.vocabulary;
  T* d_logits = args.d_logits == nullptr ? nullptr : args.d_logits + row * args.vocabulary;
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int32_t target = args.targets[row];
  if (target < 0) {
    if (thread == 0) args.losses[row] = 0.0F;
    if (d_logits == nullptr) return;
    for (int i = thread; i < args.vocabulary; i += threads) d_logits[i] = FromFloat<T>(0.0F);
    return;
  }
  const auto capped = [&](float logit) { return Cap<T, kCapped>(logit, args.softcap); };
  const int vectors = static_cast<int>(VectorsOf<kWidth>(args.vocabulary, logits, d_logits));
  const float target_z = capped(logits[target]).z;
  RowSum own;
  for (int i = thread; i < vectors; i += threads) {
    float z[kWidth];
    LoadLogits(logits + i * kWidth, z);
#pragma unroll
    for (float& value : z) value = capped(value).z;
    own.Add(z);
  }
  for (int i = vectors * kWidth + thread; i < args.vocabulary; i += threads) {
    own.Add<1>({capped(logits[i]).z});
  }
  const float maximum = BlockMaximum(own.maximum, scratch);
  const float total = BlockSum(own.sum * Exp2(own.maximum - maximum), scratch);
  if (thread == 0) args.losses[row] = (maximum - target_z) * kLn2 + logf(total);
  if (d_logits == nullptr) return;
  const float share = 1.0F / total;
  const auto gradient = [&](int i, float logit) {
    const CappedLogit at = capped(logit);
    const float d = Exp2(at.z - maximum) * share - (i == target ? 1.0F : 0.0F);
    return d * at.slope * args.loss_scale;
  };
  for (int i = thread; i < vectors; i += threads) {
    float values[kWidth];
    LoadLogits(logits + i * kWidth, values);
#pragma unroll
    for (int c = 0; c < kWidth; ++c) values[c] = gradient(i * kWidth + c, values[c]);
    StoreGradients(values, d_logits + i * kWidth);
  }
  for (int i = vectors * kWidth + thread; i < args.vocabulary; i += threads) {
    d_logits[i] = FromFloat<T>(gradient(i, logits[i]));
  }
}

}  // namespace

template <typename T>
void LaunchCrossEntropy(const CrossEntropyKernelArgs<T>& args, cudaStream_t stream) {
  const auto kernel =
      args.softcap > 0.0F ? CrossEntropyKernel<T, true> : CrossEntropyKernel<T, false>;
  Launch(
      kernel,
      {dim3(static_cast<unsigned>(args.rows)), kThreads, kThreads / kWarpThreads * sizeof(float)},
      stream, args);
}

template void LaunchCrossEntropy<float>(const CrossEntropyKernelArgs<float>&, cudaStream_t);
template void LaunchCrossEntropy<Bf16>(const CrossEntropyKernelArgs<Bf16>&, cudaStream_t);

}  // namespace sinkforge::kernels::cuda
