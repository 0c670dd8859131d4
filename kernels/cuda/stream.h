// Stream: the one stream of a backend, on which everything of it happens in order.
#pragma once

#include "kernels/cuda/device.h"

namespace sinkforge::kernels::cuda {

// Owned by the backend, which gives it to everything else.
class Stream {
 public:
  Stream() { CheckCuda(cudaStreamCreate(&stream_), "a stream"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }
  void Wait() const { CheckCuda(cudaStreamSynchronize(stream_), "a kernel"); }

  // To be told whenever memory is freed that launches on the stream were given: what was captured
  // before must not be launched again.
  void MemoryFreed() { ++freed_; }
  int64_t freed() const { return freed_; }

 private:
  cudaStream_t stream_ = nullptr;
  int64_t freed_ = 0;
};

}  // namespace sinkforge::kernels::cuda
