// Share: how a range is divided among ranks, and such a part of a tensor.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/status.h"
#include "kernels/tensor.h"

namespace sinkforge::trainer {

// Part `index` of `count` contiguous parts of [0, total). They differ by at most one, the larger
// ones first.
struct Share {
  int64_t first = 0;
  int64_t size = 0;
};

inline Share ShareOf(int64_t total, int64_t index, int64_t count) {
  SINKFORGE_CHECK(total >= 0 && index >= 0 && index < count);
  const int64_t size = total / count;
  const int64_t larger = total % count;
  return {index * size + std::min(index, larger), size + (index < larger ? 1 : 0)};
}

// The elements `share` of the flattened tensor, as a vector; without data where the tensor has
// none.
inline kernels::Tensor FlatSlice(const kernels::Tensor& tensor, const Share& share) {
  SINKFORGE_CHECK(share.first >= 0 && share.size >= 0 &&
                  share.first + share.size <= tensor.elements());
  char* data = static_cast<char*>(tensor.data);
  if (data != nullptr) data += share.first * kernels::SizeOf(tensor.dtype);
  return kernels::Tensor(data, tensor.dtype, {share.size});
}

}  // namespace sinkforge::trainer
