// Tensor: a contiguous row-major view. It owns nothing; the memory belongs to the backend that
// allocated it.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "kernels/status.h"

namespace sinkforge::kernels {

enum class DType : uint8_t { kF32, kF64, kBF16, kI32 };

constexpr int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF64:
      return 8;
    case DType::kBF16:
      return 2;
  }
  return 0;
}

struct Tensor {
  static constexpr int kRankMax = 4;

  Tensor() = default;
  Tensor(void* memory, DType type, std::initializer_list<int64_t> dims)
      : data(memory), dtype(type) {
    SINKFORGE_CHECK(dims.size() <= kRankMax);
    for (int64_t dim : dims) shape[static_cast<size_t>(rank++)] = dim;
  }

  int64_t dim(int i) const { return shape[static_cast<size_t>(i)]; }
  int64_t elements() const {
    int64_t count = 1;
    for (int i = 0; i < rank; ++i) count *= dim(i);
    return count;
  }
  int64_t bytes() const { return elements() * SizeOf(dtype); }
  bool empty() const { return data == nullptr; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }

  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, kRankMax> shape{};
};

}  // namespace sinkforge::kernels
