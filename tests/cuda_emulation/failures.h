// Calls of the emulated device that a test makes fail.
#pragma once

namespace emulation {

enum class CudaCall {
  kGetDeviceCount,
  kSetDevice,
  kFuncGetAttributes,
  kMalloc,
  kBeginCapture,
  kLaunchInCapture,
  kEndCapture,
  kInstantiate
};
// The calling thread's next such call fails with `error`, a cudaError_t.
void FailNext(CudaCall call, int error);
// For the emulated calls: what the test asked for, once; else 0.
int FailureOf(CudaCall call);

}  // namespace emulation
