// Devices and their backends.
#include "worker/trainer/make_backend.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/ref/ref_backend.h"
#include "worker/trainer/device_backend.h"

namespace sinkforge::trainer {

kernels::Result<std::unique_ptr<kernels::Backend>> MakeBackend(const v1::JobSpec& job,
                                                               BackendChoice choice) {
  const v1::ResourceSpec& resources = job.resources();
  if (resources.device() == v1::DEVICE_CUDA) return MakeDeviceBackend(job.train().precision());
  if (choice == BackendChoice::kRef) return kernels::MakeRefBackend(kernels::DType::kF32);
  return kernels::MakeCpuBackend(resources.threads());
}

}  // namespace sinkforge::trainer
