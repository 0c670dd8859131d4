// Which GPUs this program can use, for whoever makes a CudaBackend and for people who ask before.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/status.h"

namespace sinkforge::kernels {

struct CudaDevice {
  int index = 0;  // among those that the process sees (CUDA_VISIBLE_DEVICES)
  std::string name;
  int major = 0;  // of the compute capability
  int minor = 0;
  int64_t memory_bytes = 0;
  int64_t free_bytes = 0;
};

// Makes the device the calling thread's. kFailedPrecondition: no driver, no such device, or one
// that this program has no kernels for or that cannot be had now; the message says which.
Result<CudaDevice> UseCudaDevice(int index);

struct CudaDevices {
  std::vector<CudaDevice> usable;
  std::vector<std::string> problems;  // of every other device, which each of them names
};

// Every device that the process sees; some memory of each stays taken until the process ends.
// kFailedPrecondition: none is usable; says why, and what to look at.
Result<CudaDevices> ListCudaDevices();

}  // namespace sinkforge::kernels
