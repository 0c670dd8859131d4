// What every kernel of this folder stands on: element types, launches, warp and block sums. Written
// so that a host compiler with an emulated <cuda_runtime.h> takes the same sources: the tests run
// them on the processor where there is no GPU.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/formulas.h"

namespace sinkforge::kernels::cuda {

using Bf16 = __nv_bfloat16;

inline constexpr int kWarpThreads = 32;
inline constexpr unsigned kFullWarp = 0xFFFFFFFFU;

// Where this thread captures a graph (graphs.h), the capture comes to nothing for this reason:
// true, and the caller goes on. Nothing that is launched in a capture runs before its graph does,
// so nothing is wrong yet.
bool RefuseCapture(const char* what, const char* why);

// A failed call means a broken device or a bug in a launch, and nothing computed after it can be
// trusted: the process ends with the reason, and the worker reports it.
inline void CheckCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess || RefuseCapture(what, cudaGetErrorString(error))) return;
  std::fprintf(stderr, "CUDA: %s: %s (%s)\n", what, cudaGetErrorString(error),
               cudaGetErrorName(error));
  std::_Exit(kDeviceFailureExitCode);
}

__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(Bf16 x) { return __bfloat162float(x); }
template <typename T>
__device__ __forceinline__ T FromFloat(float x);
template <>
__device__ __forceinline__ float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ Bf16 FromFloat<Bf16>(float x) {
  return __float2bfloat16(x);
}

// 16 bytes at once; memory and the number of elements allow it where kWidth divides both.
template <typename T>
struct alignas(16) Vector {
  static constexpr int kWidth = 16 / static_cast<int>(sizeof(T));
  T at[kWidth];
};

// Of n elements, those that are taken in whole vectors of kWidth: none where an address does not
// allow it.
template <int kWidth, typename... Pointers>
__device__ __forceinline__ int64_t VectorsOf(int64_t n, Pointers... at) {
  const bool aligned = (... && (reinterpret_cast<uintptr_t>(at) % 16 == 0));
  return aligned ? n / kWidth : 0;
}

// The sum over a warp, in every lane.
template <typename T>
__device__ __forceinline__ T WarpSum(T value) {
  for (int lane = kWarpThreads / 2; lane > 0; lane /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, lane);
  }
  return value;
}

// The sum over a block of whole warps, in every thread; always added in the same order. `scratch`
// holds one T a warp.
template <typename T>
__device__ __forceinline__ T BlockSum(T value, T* scratch) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int warps = static_cast<int>(blockDim.x) / kWarpThreads;
  value = WarpSum(value);
  __syncthreads();  // An earlier sum may still be read.
  if (threadIdx.x % kWarpThreads == 0) scratch[warp] = value;
  __syncthreads();
  T total = scratch[0];
  for (int i = 1; i < warps; ++i) total += scratch[i];
  return total;
}

struct LaunchShape {
  dim3 grid;
  unsigned threads = 0;  // of a block
  size_t shared_bytes = 0;
};

template <typename... Parameters, typename... Arguments>
void Launch(void (*kernel)(Parameters...), const LaunchShape& shape, cudaStream_t stream,
            Arguments... arguments) {
#if defined(__CUDACC__)
  constexpr size_t kOrdinarySharedBytes = 48U << 10;
  if (shape.shared_bytes > kOrdinarySharedBytes) {
    CheckCuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shape.shared_bytes)),
              "shared memory of a kernel");
  }
  kernel<<<shape.grid, shape.threads, shape.shared_bytes, stream>>>(
      static_cast<Parameters>(arguments)...);
#else
  emulation::Launch(stream, [kernel, shape, arguments...] {
    emulation::Run({shape.grid, shape.threads, shape.shared_bytes},
                   [&] { kernel(static_cast<Parameters>(arguments)...); });
  });
#endif
  CheckCuda(cudaGetLastError(), "launch of a kernel");
}

// The block's dynamic shared memory.
__device__ __forceinline__ unsigned char* SharedMemory() {
#if defined(__CUDACC__)
  extern __shared__ __align__(1024) unsigned char sinkforge_shared[];
  return sinkforge_shared;
#else
  return emulation::SharedMemory();
#endif
}

inline unsigned BlocksFor(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace sinkforge::kernels::cuda
