// Random numbers as a function of what they are for: every number is computed from (seed, purpose,
// index) alone, so nothing depends on the order of the calls, on the number of ranks or on the
// machine. Philox4x32-10 (Salmon et al., SC 2011) makes the bits; only +, -, *, / and sqrt, which
// IEEE 754 rounds in one way, make numbers of them.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sinkforge::trainer {

using Philox4x32Counter = std::array<uint32_t, 4>;
using Philox4x32Key = std::array<uint32_t, 2>;

// The ten-round block function, as published.
Philox4x32Counter Philox4x32(Philox4x32Counter counter, Philox4x32Key key);

// One stream of numbers, for example the initial values of one tensor.
class RandomStream {
 public:
  // `purpose` names what the numbers are for; streams of different names are independent.
  RandomStream(uint64_t seed, std::string_view purpose);

  // 64 uniform bits at `index`.
  uint64_t Bits(uint64_t index) const;
  // Two independent standard normal numbers: elements 2 * pair and 2 * pair + 1 of the stream
  // (Marsaglia's polar method).
  std::array<double, 2> NormalPair(uint64_t pair) const;

 private:
  Philox4x32Counter Block(uint64_t index, uint32_t attempt) const;

  Philox4x32Key key_;
  uint64_t purpose_;
};

}  // namespace sinkforge::trainer
