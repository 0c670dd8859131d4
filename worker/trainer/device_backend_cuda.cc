// A build with CUDA.
#include "kernels/cuda/cuda_backend.h"
#include "worker/trainer/device_backend.h"

namespace sinkforge::trainer {

kernels::Result<std::unique_ptr<kernels::Backend>> MakeDeviceBackend(v1::Precision precision) {
  kernels::CudaBackendOptions options;
  options.precision = precision == v1::PRECISION_BF16 ? kernels::CudaPrecision::kMixed
                                                      : kernels::CudaPrecision::kFloat32;
  return kernels::MakeCudaBackend(options);
}

}  // namespace sinkforge::trainer
