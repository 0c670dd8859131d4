// Reflected polynomial 0x82F63B78, initial value and final xor all ones.
#include "proto/checkpoint_format/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace sinkforge::checkpoint {
namespace {

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    table[i] = crc;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kTable = MakeTable();

#if defined(__x86_64__)
// Eight bytes an instruction: about 9 GB/s, far above what storage takes.
__attribute__((target("sse4.2"))) uint32_t ByInstruction(const void* bytes, size_t count,
                                                         uint32_t previous) {
  const auto* next = static_cast<const unsigned char*>(bytes);
  uint64_t crc = ~previous;
  for (; count >= 8; count -= 8, next += 8) {
    uint64_t word = 0;
    std::memcpy(&word, next, 8);
    crc = _mm_crc32_u64(crc, word);
  }
  auto crc32 = static_cast<uint32_t>(crc);
  for (; count > 0; --count, ++next) crc32 = _mm_crc32_u8(crc32, *next);
  return ~crc32;
}
#endif

}  // namespace

uint32_t Crc32cByTable(const void* bytes, size_t count, uint32_t previous) {
  const auto* next = static_cast<const unsigned char*>(bytes);
  uint32_t crc = ~previous;
  for (; count > 0; --count, ++next) crc = (crc >> 8U) ^ kTable[(crc ^ *next) & 0xFFU];
  return ~crc;
}

uint32_t Crc32c(const void* bytes, size_t count, uint32_t previous) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2") != 0) return ByInstruction(bytes, count, previous);
#endif
  return Crc32cByTable(bytes, count, previous);
}

}  // namespace sinkforge::checkpoint
