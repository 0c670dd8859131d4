// Devices and their backends.
#include "worker/trainer/make_backend.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/ref/ref_backend.h"
#include "worker/trainer/device_backend.h"

namespace sinkforge::trainer {

kernels::ProductPrecision ProductsOnCpu(v1::Precision precision, bool processor_has_bfloat16) {
  return precision == v1::PRECISION_BF16 && processor_has_bfloat16
             ? kernels::ProductPrecision::kBfloat16
             : kernels::ProductPrecision::kFloat32;
}

std::string ExplainPrecision(const v1::JobSpec& job, bool processor_has_bfloat16) {
  if (job.resources().device() != v1::DEVICE_CPU || processor_has_bfloat16 ||
      job.train().precision() != v1::PRECISION_BF16) {
    return "";
  }
  return "train.precision: bf16 needs a processor with AVX512-BF16 or AMX, and this one has "
         "neither; training in fp32, which is faster here than bf16 would be";
}

kernels::Result<std::unique_ptr<kernels::Backend>> MakeBackend(const v1::JobSpec& job,
                                                               BackendChoice choice) {
  const v1::ResourceSpec& resources = job.resources();
  if (resources.device() == v1::DEVICE_CUDA) return MakeDeviceBackend(job.train().precision());
  if (choice == BackendChoice::kRef) return kernels::MakeRefBackend(kernels::DType::kF32);
  kernels::CpuBackendOptions options;
  options.threads = resources.threads();
  options.products = ProductsOnCpu(job.train().precision(), kernels::ProcessorMultipliesBfloat16());
  return kernels::MakeCpuBackend(options);
}

}  // namespace sinkforge::trainer
