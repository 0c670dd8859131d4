// The global operator new, replaced by one that counts. A file of its own, so that no caller sees
// that new is aligned_alloc and delete is free.
#include "tests/unit/trainer/core/counting_new.h"

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int64_t> allocations{0};
std::atomic<int64_t> live_bytes{0};

void* Count(std::size_t size, std::size_t alignment) {
  ++allocations;
  size = (size + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, size == 0 ? alignment : size);
  if (memory == nullptr) return nullptr;
  live_bytes += static_cast<int64_t>(malloc_usable_size(memory));
  return memory;
}

void* CountOrThrow(std::size_t size, std::size_t alignment) {
  void* memory = Count(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void Release(void* memory) {
  live_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t size) { return CountOrThrow(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return CountOrThrow(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return Count(size, alignof(std::max_align_t));
}
void operator delete(void* memory) noexcept { Release(memory); }
void operator delete(void* memory, std::size_t) noexcept { Release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { Release(memory); }

namespace sinkforge::trainer {

int64_t AllocationsSoFar() { return allocations; }
int64_t LiveBytes() { return live_bytes; }

}  // namespace sinkforge::trainer
