// Element and row loops over the pool: a range is cut into equal slices, fixed by its size and the
// number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/thread_pool.h"

namespace sinkforge::kernels {

// Floats that one thread handles faster than it would wake another.
inline constexpr int64_t kParallelFloatsMin = 16'384;

// body(begin, end) over [0, items), where an item is `floats_each` floats of work.
template <typename Body>
void ForRanges(ThreadPool* pool, int64_t items, int64_t floats_each, const Body& body) {
  // Slices of whole cache lines keep two threads from writing to one.
  const int64_t multiple = floats_each >= 16 ? 1 : 16;
  const int64_t groups = (items + multiple - 1) / multiple;
  const int64_t worth = items * floats_each / kParallelFloatsMin;
  const int64_t slices = std::clamp<int64_t>(std::min(worth, groups), 1, pool->threads());
  pool->Run(slices, [&](int64_t slice, int) {
    const int64_t begin = std::min(items, groups * slice / slices * multiple);
    const int64_t end = std::min(items, groups * (slice + 1) / slices * multiple);
    if (begin < end) body(begin, end);
  });
}

}  // namespace sinkforge::kernels
