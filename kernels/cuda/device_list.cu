// What can be known of a device before anything is computed on it.
#include <cuda_runtime.h>

#include "kernels/cuda/device_list.h"

namespace sinkforge::kernels {
namespace {

// The tensor-core instructions and asynchronous copies of the kernels are there from 8.0 on.
constexpr int kMajorMin = 8;

// Of every kernel of this folder there is code for the same capabilities.
__global__ void AnyKernel() {}

Status Failure(const std::string& why) { return Status(StatusCode::kFailedPrecondition, why); }

Result<int> CountDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    return Failure(std::string("no GPU can be used: ") + cudaGetErrorString(error));
  }
  return count;
}

}  // namespace

Result<CudaDevice> UseCudaDevice(int index) {
  const Result<int> count = CountDevices();
  if (!count.ok()) return count.status();
  const std::string number = "device " + std::to_string(index);
  if (index < 0 || index >= count.value()) {
    return Failure(number + " is not there, this machine has " + std::to_string(count.value()));
  }
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, index); error != cudaSuccess) {
    return Failure(number + " cannot be used: " + cudaGetErrorString(error));
  }
  CudaDevice device{index, properties.name, properties.major, properties.minor};
  const std::string named = number + " (" + device.name + ")";
  const std::string has_capability = named + " has compute capability " +
                                     std::to_string(device.major) + "." +
                                     std::to_string(device.minor);
  if (device.major < kMajorMin) return Failure(has_capability + ", below 8.0");
  size_t free = 0;
  size_t total = 0;
  cudaError_t error = cudaSetDevice(index);
  if (error == cudaSuccess) error = cudaMemGetInfo(&free, &total);
  if (error != cudaSuccess) {
    return Failure(named + " cannot be used: " + cudaGetErrorString(error));
  }
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, AnyKernel) != cudaSuccess) {
    return Failure(has_capability + ", which this program was not built for");
  }
  device.memory_bytes = static_cast<int64_t>(total);
  device.free_bytes = static_cast<int64_t>(free);
  return device;
}

Result<CudaDevices> ListCudaDevices() {
  constexpr char kAdvice[] =
      "; see whether `nvidia-smi` works, and whether CUDA_VISIBLE_DEVICES leaves this program a "
      "GPU "
      "of compute capability 8.0 or more";
  const Result<int> count = CountDevices();
  if (!count.ok()) return Failure(count.status().message() + kAdvice);
  CudaDevices devices;
  std::string problems;
  for (int index = 0; index < count.value(); ++index) {
    const Result<CudaDevice> device = UseCudaDevice(index);
    if (device.ok()) {
      devices.usable.push_back(device.value());
    } else {
      devices.problems.push_back(device.status().message());
      problems += (problems.empty() ? "" : ", ") + devices.problems.back();
    }
  }
  if (devices.usable.empty()) return Failure("no GPU can be used: " + problems + kAdvice);
  return devices;
}

}  // namespace sinkforge::kernels
