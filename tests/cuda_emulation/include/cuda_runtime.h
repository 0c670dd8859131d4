// Stands in for the CUDA runtime's header when kernels are compiled for the processor: the
// qualifiers mean nothing, device memory is ordinary memory. Kernels run at once where they are
// launched, and so cudaStreamCreate gives a stream that does everything at once, or captures it;
// the streams of cudaStreamCreateWithFlags run beside the caller.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/cuda_emulation/capture.h"
#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/devices.h"
#include "tests/cuda_emulation/emulation.h"
#include "tests/cuda_emulation/failures.h"
#include "tests/cuda_emulation/hopper_emulation.h"
#include "tests/cuda_emulation/streams.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct float2 {
  float x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

inline int min(int a, int b) { return a < b ? a : b; }
template <typename T>
T atomicAdd(T* at, T value) {
  const T old = *at;
  *at += value;
  return old;
}
inline void __syncthreads() { emulation::SyncThreads(); }
inline void __syncwarp() { emulation::SyncWarp(); }
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::ValueOfLane<T>(emulation::Exchange(&value, sizeof(T)),
                                   emulation::Lane() ^ mask);
}
template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  return emulation::ValueOfLane<T>(emulation::Exchange(&value, sizeof(T)), lane);
}

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorNoDevice = 100,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorIllegalState = 401,
  cudaErrorNotReady = 600,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureImplicit = 906
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrL2CacheSize
};
using cudaStream_t = emulation::Stream*;
using cudaEvent_t = emulation::Event*;
using cudaHostFn_t = void (*)(void*);
inline constexpr unsigned cudaStreamDefault = 0;
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline constexpr unsigned cudaEventDisableTiming = 2;
inline constexpr cudaStream_t cudaStreamLegacy = nullptr;
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline const char* cudaGetErrorName(cudaError_t) { return "emulated"; }
inline cudaError_t cudaGetLastError() {
  return static_cast<cudaError_t>(emulation::TakeLastError());
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  if (const int error = emulation::FailureOf(emulation::CudaCall::kGetDeviceCount); error != 0) {
    return static_cast<cudaError_t>(error);
  }
  *count = static_cast<int>(emulation::Devices().size());
  return cudaSuccess;
}
struct cudaDeviceProp {
  char name[256];
  int major, minor;
};
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  const emulation::Device& device = emulation::Devices().at(static_cast<size_t>(index));
  *properties = {};
  device.name.copy(properties->name, sizeof(properties->name) - 1);
  properties->major = device.major;
  properties->minor = device.minor;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) {
  return static_cast<cudaError_t>(emulation::FailureOf(emulation::CudaCall::kSetDevice));
}
struct cudaFuncAttributes {};
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, Kernel*) {
  return static_cast<cudaError_t>(emulation::FailureOf(emulation::CudaCall::kFuncGetAttributes));
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const int of_attribute[] = {9, 0, 2, 64 << 10};
  *value = of_attribute[attribute];
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = emulation::MakeStream(emulation::StreamKind::kImmediate);
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream =
      emulation::MakeStream(flags == cudaStreamNonBlocking ? emulation::StreamKind::kNonBlocking
                                                           : emulation::StreamKind::kOrdinary);
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  emulation::DestroyStream(stream);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const int error = emulation::RefuseInCapture(); error != 0) {
    return static_cast<cudaError_t>(error);
  }
  emulation::WaitUntilIdle(stream);
  return cudaSuccess;
}
inline cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return emulation::Idle(stream) ? cudaSuccess : cudaErrorNotReady;
}
inline cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  return static_cast<cudaError_t>(
      emulation::Enqueue(stream, [function, argument] { function(argument); }));
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = emulation::MakeEvent();
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  emulation::DestroyEvent(event);
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const int error = emulation::RefuseInCapture(); error != 0) {
    return static_cast<cudaError_t>(error);
  }
  emulation::Record(event, stream);
  return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  emulation::WaitForEvent(stream, *event);
  return cudaSuccess;
}
// Memory is never empty and starts as NaN, as a device's starts as anything.
inline cudaError_t cudaMalloc(void** memory, size_t bytes) {
  if (const int error = emulation::RefuseInCapture(); error != 0) {
    return static_cast<cudaError_t>(error);
  }
  if (const int error = emulation::FailureOf(emulation::CudaCall::kMalloc); error != 0) {
    return static_cast<cudaError_t>(error);
  }
  const size_t size = (bytes + 63) / 64 * 64 + 64;
  *memory = std::aligned_alloc(64, size);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*memory, 0xFF, size);
  emulation::DeviceMemory::Get().Take(*memory, bytes);
  return cudaSuccess;
}
// Unlike CUDA's it does not wait for the streams: they must be done with it.
inline cudaError_t cudaFree(void* memory) {
  if (const int error = emulation::RefuseInCapture(); error != 0) {
    return static_cast<cudaError_t>(error);
  }
  if (memory != nullptr) emulation::NoteFree();
  emulation::DeviceMemory::Get().Release(memory);
  std::free(memory);
  return cudaSuccess;
}
// A card of 16 GiB that nobody else uses.
inline cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = size_t{16} << 30;
  *free = *total - emulation::DeviceMemory::Get().taken();
  return cudaSuccess;
}
// The host's memory is pageable: it is read before the call returns, or is written by then.
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream) {
  if (kind != cudaMemcpyDeviceToDevice) {
    if (const int error = emulation::RefuseInCapture(); error != 0) {
      return static_cast<cudaError_t>(error);
    }
  }
  if (kind == cudaMemcpyHostToDevice && stream != nullptr) {
    const auto* first = static_cast<const unsigned char*>(from);
    emulation::Enqueue(stream, [to, staged = std::vector<unsigned char>(first, first + bytes)] {
      std::memcpy(to, staged.data(), staged.size());
    });
    return cudaSuccess;
  }
  const int error = emulation::Enqueue(stream, [to, from, bytes] { std::memcpy(to, from, bytes); });
  if (kind == cudaMemcpyDeviceToHost) emulation::WaitUntilIdle(stream);
  return static_cast<cudaError_t>(error);
}
inline cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  return static_cast<cudaError_t>(
      emulation::Enqueue(stream, [memory, value, bytes] { std::memset(memory, value, bytes); }));
}

// What a stream captures, and graphs.
using cudaGraph_t = emulation::Graph*;
using cudaGraphExec_t = emulation::GraphExecutable*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  return static_cast<cudaError_t>(emulation::BeginCapture(stream));
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return static_cast<cudaError_t>(emulation::EndCapture(stream, graph));
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                        unsigned long long) {
  return static_cast<cudaError_t>(emulation::Instantiate(executable, graph));
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return static_cast<cudaError_t>(emulation::LaunchGraph(*executable, stream));
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  emulation::DestroyGraph(graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  emulation::DestroyExecutable(executable);
  return cudaSuccess;
}
