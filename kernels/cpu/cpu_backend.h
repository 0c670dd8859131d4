// CpuBackend: every op in float32 on the processor's vector units, with a small pool of threads.
// Products come from oneDNN, in float32 or with operands rounded to bfloat16 (matrix_product.h),
// the rest from our own loops (simd_kernels.h); with kBfloat16 the products inside attention are
// rounded as well.
//
// Results depend on the input, the number of threads and the processor's level, and on nothing
// else: not on timing, load or memory addresses.
#pragma once

#include <memory>
#include <optional>

#include "kernels/backend.h"
#include "kernels/cpu/matrix_product.h"
#include "kernels/cpu/simd_kernels.h"

namespace sinkforge::kernels {

struct CpuBackendOptions {
  int threads = 1;  // the calling thread included
  // Absent: the widest level that the processor has. Naming one that is missing is a bug.
  std::optional<SimdLevel> level;
  // kBfloat16 only where ProcessorMultipliesBfloat16().
  ProductPrecision products = ProductPrecision::kFloat32;
};

std::unique_ptr<Backend> MakeCpuBackend(int threads);
std::unique_ptr<Backend> MakeCpuBackend(const CpuBackendOptions& options);

}  // namespace sinkforge::kernels
