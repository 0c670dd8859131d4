// Philox4x32-10 and the polar method. This file is compiled with -ffp-contract=off: a fused
// multiply-add rounds once where two operations round twice, and would make the bits depend on the
// processor.
#include "worker/trainer/core/random.h"

#include <cmath>

namespace sinkforge::trainer {
namespace {

constexpr uint32_t kMultiplier0 = 0xD2511F53;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

// The low half carries the index's upper bits and the high half the attempt, so an index has 48.
constexpr int kAttemptShift = 16;

uint64_t Fnv1a64(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325;
  for (char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001B3;
  }
  return hash;
}

// A number of (-1, 1) from 64 bits: 53 of them, centred between the grid's points.
double SymmetricUniform(uint32_t low, uint32_t high) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32) | low;
  const double unit = (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
  return 2.0 * unit - 1.0;
}

// log(x) for x in (0, 1). The C library's log differs in its last bit between processors with and
// without fused multiply-add; this sum does not. log m = 2 atanh((m - 1) / (m + 1)), of which ten
// terms reach 1e-17 for m in [1/sqrt 2, sqrt 2].
double PortableLog(double x) {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);
  if (mantissa < 0.70710678118654752440) {
    mantissa *= 2.0;
    exponent -= 1;
  }
  const double s = (mantissa - 1.0) / (mantissa + 1.0);
  const double s2 = s * s;
  double sum = 0.0;
  for (int k = 10; k >= 0; --k) sum = sum * s2 + 1.0 / (2.0 * k + 1.0);
  return 2.0 * s * sum + exponent * 0.69314718055994530942;
}

}  // namespace

Philox4x32Counter Philox4x32(Philox4x32Counter counter, Philox4x32Key key) {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(kMultiplier0) * counter[0];
    const uint64_t product1 = static_cast<uint64_t>(kMultiplier1) * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

RandomStream::RandomStream(uint64_t seed, std::string_view purpose)
    : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
      purpose_(Fnv1a64(purpose)) {}

Philox4x32Counter RandomStream::Block(uint64_t index, uint32_t attempt) const {
  const uint32_t upper = static_cast<uint32_t>(index >> 32) | (attempt << kAttemptShift);
  return Philox4x32({static_cast<uint32_t>(index), upper, static_cast<uint32_t>(purpose_),
                     static_cast<uint32_t>(purpose_ >> 32)},
                    key_);
}

uint64_t RandomStream::Bits(uint64_t index) const {
  const Philox4x32Counter block = Block(index, 0);
  return (static_cast<uint64_t>(block[1]) << 32) | block[0];
}

std::array<double, 2> RandomStream::NormalPair(uint64_t pair) const {
  for (uint32_t attempt = 0;; ++attempt) {
    const Philox4x32Counter block = Block(pair, attempt);
    const double x = SymmetricUniform(block[0], block[1]);
    const double y = SymmetricUniform(block[2], block[3]);
    const double radius2 = x * x + y * y;
    // A point outside the unit circle is drawn again: 21% of them.
    if (radius2 >= 1.0 || radius2 == 0.0) continue;
    const double scale = std::sqrt(-2.0 * PortableLog(radius2) / radius2);
    return {x * scale, y * scale};
  }
}

}  // namespace sinkforge::trainer
