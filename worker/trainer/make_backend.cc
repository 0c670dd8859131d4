// Devices and their backends.
#include "worker/trainer/make_backend.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/ref/ref_backend.h"

namespace sinkforge::trainer {

using kernels::Status;
using kernels::StatusCode;

kernels::Result<std::unique_ptr<kernels::Backend>> MakeBackend(const v1::ResourceSpec& resources,
                                                               BackendChoice choice) {
  if (resources.device() != v1::DEVICE_CPU) {
    return Status(StatusCode::kInvalidArgument,
                  "resources.device: this trainer was built for the CPU alone; use device: cpu");
  }
  if (choice == BackendChoice::kRef) return kernels::MakeRefBackend(kernels::DType::kF32);
  return kernels::MakeCpuBackend(resources.threads());
}

}  // namespace sinkforge::trainer
