// Zeroed, cache-line aligned host memory.
#include "kernels/host_backend.h"

#include <cstdlib>
#include <cstring>

#include "kernels/bfloat16.h"

namespace sinkforge::kernels {

void* HostBackend::Allocate(int64_t bytes) {
  SINKFORGE_CHECK(bytes >= 0);
  constexpr size_t kAlignment = 64;  // one cache line, and the widest vector register
  const size_t size =
      (static_cast<size_t>(bytes) / kAlignment + 1) * kAlignment;  // never zero bytes
  void* memory = std::aligned_alloc(kAlignment, size);
  if (memory != nullptr) std::memset(memory, 0, size);
  return memory;
}

void HostBackend::Free(void* memory) { std::free(memory); }

void HostBackend::CopyFromHost(const Tensor& to, const void* from) {
  if (to.bytes() > 0) std::memcpy(to.data, from, static_cast<size_t>(to.bytes()));
}

void HostBackend::CopyToHost(void* to, const Tensor& from) {
  if (from.bytes() > 0) std::memcpy(to, from.data, static_cast<size_t>(from.bytes()));
}

void HostBackend::Copy(const Tensor& from, const Tensor& to) {
  SINKFORGE_CHECK(from.elements() == to.elements());
  if (from.dtype == to.dtype) {
    CopyFromHost(to, from.data);
    return;
  }
  SINKFORGE_CHECK(from.dtype == DType::kF32 && to.dtype == DType::kBF16);
  for (int64_t i = 0; i < from.elements(); ++i) {
    to.as<uint16_t>()[i] = RoundToBfloat16(from.as<float>()[i]);
  }
}

}  // namespace sinkforge::kernels
