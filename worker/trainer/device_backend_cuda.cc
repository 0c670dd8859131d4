// A build with CUDA.
#include "base/log.h"
#include "kernels/cuda/cuda_backend.h"
#include "worker/trainer/device_backend.h"

namespace sinkforge::trainer {

kernels::Result<std::unique_ptr<kernels::Backend>> MakeDeviceBackend(v1::Precision precision) {
  kernels::CudaBackendOptions options;
  options.precision = precision == v1::PRECISION_BF16 ? kernels::CudaPrecision::kMixed
                                                      : kernels::CudaPrecision::kFloat32;
  options.warn = [](const std::string& message) { base::LogWarning(message); };
  return kernels::MakeCudaBackend(options);
}

kernels::Result<kernels::CudaDevices> ListDevices() { return kernels::ListCudaDevices(); }

}  // namespace sinkforge::trainer
