// SumInRankOrder: the sum of several ranks' numbers, added in the order of the ranks, so that every
// host implementation of a collective gives the same bits.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

namespace sinkforge::trainer {

// to[i] = ((sources[0][i] + sources[1][i]) + ...); `to` may be one of the sources.
template <typename T>
void SumInRankOrder(std::span<const T* const> sources, size_t count, T* to) {
  constexpr size_t kBlock = 1024;  // of 8 KiB at most: stays in the first-level cache
  std::array<T, kBlock> sum;
  for (size_t first = 0; first < count; first += kBlock) {
    const size_t size = std::min(kBlock, count - first);
    std::copy_n(sources[0] + first, size, sum.begin());
    for (const T* const source : sources.subspan(1)) {
      for (size_t i = 0; i < size; ++i) sum[i] += source[first + i];
    }
    std::copy_n(sum.begin(), size, to + first);
  }
}

}  // namespace sinkforge::trainer
