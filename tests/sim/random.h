// Seeded randomness of a simulation: the same seed gives the same run on every machine.
#pragma once

#include <cstdint>

namespace sinkforge::sim {

// SplitMix64. The standard library's distributions differ between implementations.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  // In [0, count). The bias of the remainder is below 2^-32 for any count used here.
  int64_t Below(int64_t count) {
    return static_cast<int64_t>(Next() % static_cast<uint64_t>(count));
  }
  int64_t Between(int64_t low, int64_t high) { return low + Below(high - low + 1); }
  // True once in `count` times.
  bool OneIn(int64_t count) { return Below(count) == 0; }

 private:
  uint64_t state_;
};

}  // namespace sinkforge::sim
