// Workspace: device memory that an op needs between its kernels, kept and grown to the largest
// shape seen, so that a steady step allocates nothing.
#pragma once

#include "kernels/cuda/stream.h"

namespace sinkforge::kernels::cuda {

// Owned by the backend; of one purpose, so that ops never share one by mistake.
class Workspace {
 public:
  Workspace() = default;
  ~Workspace() { cudaFree(memory_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // What it held is lost where it grows. The stream is waited for then: a kernel may still use the
  // old memory.
  template <typename T>
  T* Reserve(int64_t count, Stream* stream) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    if (bytes > bytes_ && !RefuseCapture("a workspace", "it would have to grow")) {
      stream->Wait();
      if (memory_ != nullptr) stream->MemoryFreed();
      CheckCuda(cudaFree(memory_), "a workspace grows");
      memory_ = nullptr;
      bytes_ = 0;
      CheckCuda(cudaMalloc(&memory_, static_cast<size_t>(bytes)),
                "no memory for a workspace; free memory of the GPU, or give train.micro_batch a "
                "number below this run's rows, which auto may have chosen");
      bytes_ = bytes;
    }
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace sinkforge::kernels::cuda
