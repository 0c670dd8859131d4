// A build without CUDA.
#include "worker/trainer/device_backend.h"

namespace sinkforge::trainer {

kernels::Result<std::unique_ptr<kernels::Backend>> MakeDeviceBackend(v1::Precision) {
  return kernels::Status(kernels::StatusCode::kInvalidArgument,
                         "resources.device: this trainer was built for the CPU alone; use device: "
                         "cpu, or build it with the preset `cuda`");
}

kernels::Result<kernels::CudaDevices> ListDevices() {
  return kernels::Status(kernels::StatusCode::kInvalidArgument,
                         "no GPU can be used: this trainer was built for the CPU alone; build it "
                         "with the preset `cuda`");
}

}  // namespace sinkforge::trainer
