// Softcapped cross-entropy of rows of logits, and its gradient by them, a block a row:
//
//   z = softcap(l); loss = log sum exp(z) - z[target]; d_l = scale (softmax(z) - [target]) z'(l)
//
// Two readings of the row (the second for the gradient) and one writing; sums in float32, threads'
// parts merged in a fixed order.
#include "kernels/cuda/ops.h"

namespace sinkforge::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;

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

template <typename T>
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
  const float target_logit = Softcap(logits[target], args.softcap);
  SoftmaxSum own;
  for (int i = thread; i < args.vocabulary; i += threads) {
    own = Merge(own, {Softcap(logits[i], args.softcap), 1.0F});
  }
  const float maximum = BlockMaximum(own.maximum, scratch);
  // A thread that saw nothing has a maximum of minus infinity, and adds nothing.
  const float total = BlockSum(own.sum * expf(own.maximum - maximum), scratch);
  if (thread == 0) args.losses[row] = (maximum - target_logit) + logf(total);
  if (d_logits == nullptr) return;
  for (int i = thread; i < args.vocabulary; i += threads) {
    const float z = Softcap(logits[i], args.softcap);
    const float d = expf(z - maximum) / total - (i == target ? 1.0F : 0.0F);
    d_logits[i] = FromFloat<T>(d * SoftcapSlope(z, args.softcap) * args.loss_scale);
  }
}

}  // namespace

template <typename T>
void LaunchCrossEntropy(const CrossEntropyKernelArgs<T>& args, cudaStream_t stream) {
  Launch(
      CrossEntropyKernel<T>,
      {dim3(static_cast<unsigned>(args.rows)), kThreads, kThreads / kWarpThreads * sizeof(float)},
      stream, args);
}

template void LaunchCrossEntropy<float>(const CrossEntropyKernelArgs<float>&, cudaStream_t);
template void LaunchCrossEntropy<Bf16>(const CrossEntropyKernelArgs<Bf16>&, cudaStream_t);

}  // namespace sinkforge::kernels::cuda
