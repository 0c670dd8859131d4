// HostBackend: the memory half of a Backend whose tensors live in ordinary memory; RefBackend and
// CpuBackend derive from it.
#pragma once

#include "kernels/backend.h"

namespace sinkforge::kernels {

class HostBackend : public Backend {
 public:
  void* Allocate(int64_t bytes) final;
  void Free(void* memory) final;
  void CopyFromHost(const Tensor& to, const void* from) final;
  void CopyToHost(void* to, const Tensor& from) final;
  void Copy(const Tensor& from, const Tensor& to) final;
};

}  // namespace sinkforge::kernels
