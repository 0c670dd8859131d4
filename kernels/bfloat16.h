// bfloat16 as bits, for hosts: the upper half of a float32.
#pragma once

#include <bit>
#include <cstdint>

namespace sinkforge::kernels {

// Nearest, ties to even; a NaN stays one.
inline uint16_t RoundToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (value != value) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

inline float FromBfloat16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace sinkforge::kernels
