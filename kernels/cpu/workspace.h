// Memory that an object of the CPU backend keeps between its calls.
#pragma once

#include <cstdint>
#include <vector>

namespace sinkforge::kernels {

// The start of a buffer of at least `size` elements; what was in it is lost where it grows. It
// never holds the old and the new memory at once, nor more than was asked for, as a vector's own
// growth would.
template <typename T>
T* GrowTo(int64_t size, std::vector<T>* buffer) {
  if (static_cast<int64_t>(buffer->size()) < size) {
    *buffer = std::vector<T>();
    buffer->resize(static_cast<size_t>(size));
  }
  return buffer->data();
}

}  // namespace sinkforge::kernels
