// Share: how a range is divided among ranks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/status.h"

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

}  // namespace sinkforge::trainer
