// CudaBackend: every op on an NVIDIA GPU of compute capability 8.0 or more, on one stream. Matrix
// products come from cuBLASLt, everything else is ours. In kMixed precision activations and working
// weights are bfloat16 beside float32 parameters, in kFloat32 everything is float32, which is for
// checking rather than for speed.
//
// A CUDA call that fails ends the process with the reason: nothing computed after it could be
// trusted.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/backend.h"
#include "kernels/status.h"

namespace sinkforge::kernels {

// Of a process that ends because a GPU or its libraries failed.
inline constexpr int kDeviceFailureExitCode = 26;

enum class CudaPrecision { kFloat32, kMixed };

// Which attention kernels: with the instructions of compute capability 9.0, on tensor cores as 8.0
// has them, or a warp a row without them. Where a path has no kernel, the next one is taken:
// kHopper has heads of 64 and 128 channels in bfloat16, kTensorCores those of 32 as well. kDefault
// is kHopper where the device has it and kHopperByDefault says so, else kTensorCores.
enum class CudaAttention { kDefault, kHopper, kTensorCores, kRows };

// In which order attention's backward adds up the gradients of queries: a fixed one, for the same
// bits every time, or in whichever the blocks of keys come to it, in one kernel in place of two.
// The latter has kernels for kTensorCores alone; the other paths keep to the fixed one.
enum class CudaGradientOrder { kFixed, kAny };

// False as long as the kernels for 9.0 have not run on a device. To be turned once
// `tests/gpu/run.sh check` has passed on one, and its `bench` has shown them to be the faster ones.
inline constexpr bool kHopperByDefault = false;

// Whether what Backend::Replay is given is kept as CUDA graphs: the same bits, and one launch for
// many. To be turned once `tests/gpu/run.sh` has shown on a device that it is right (`check`) and
// what it gains (`bench`).
enum class CudaGraphs { kOff, kOn };
inline constexpr CudaGraphs kGraphsByDefault = CudaGraphs::kOff;

struct CudaBackendOptions {
  int device = 0;
  CudaPrecision precision = CudaPrecision::kMixed;
  CudaAttention attention = CudaAttention::kDefault;
  // The most logits that the cross-entropy holds at once: 4,096 rows of 65,536 tokens. Every block
  // of rows reads and writes the whole gradient of the unembedding, and its products by rows must
  // fill the device.
  int64_t logits_max = int64_t{256} << 20;
  CudaGradientOrder gradient_order = CudaGradientOrder::kFixed;
  CudaGraphs graphs = kGraphsByDefault;
  // Told what a person should know though the work goes on; empty: it goes to stderr.
  std::function<void(const std::string&)> warn;
};

// Whether the device can run CudaAttention::kHopper; false where there is no device.
bool HasHopperKernels(int device);

// kFailedPrecondition: no driver, no such device, or one that is too old or has not the attention
// kernels asked for; the message says which.
Result<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options);

}  // namespace sinkforge::kernels
