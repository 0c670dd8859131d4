// CudaBackend: every op on an NVIDIA GPU of compute capability 8.0 or more, on one stream. Matrix
// products come from cuBLASLt, everything else is ours. In kMixed precision activations and working
// weights are bfloat16 beside float32 parameters, in kFloat32 everything is float32, which is for
// checking rather than for speed.
//
// A CUDA call that fails ends the process with the reason
// (exit code 26): nothing computed after it could be trusted.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/status.h"

namespace sinkforge::kernels {

enum class CudaPrecision { kFloat32, kMixed };

// Which attention kernels: on the tensor cores, or a warp a row without them. For float32 and for
// heads that are not 32, 64 or 128 channels wide it is always the latter.
enum class CudaAttention { kTensorCores, kRows };

struct CudaBackendOptions {
  int device = 0;
  CudaPrecision precision = CudaPrecision::kMixed;
  CudaAttention attention = CudaAttention::kTensorCores;
  // The most logits that the cross-entropy holds at once: 1,024 rows of 65,536 tokens.
  int64_t logits_max = int64_t{64} << 20;
};

// kFailedPrecondition: no driver, no such device, or one that is too old; the message says which.
Result<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options);

}  // namespace sinkforge::kernels
