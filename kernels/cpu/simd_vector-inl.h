// A vector of floats as wide as the level's registers, and the functions on it: exponential,
// logarithm, hyperbolic tangent, horizontal sums, transposition. Included by simd_level-inl.h only,
// inside its anonymous namespace; SINKFORGE_VECTOR_BYTES is 16, 32 or 64.
//
// Accuracy (tests/unit/kernels/simd_test.cc): Exp and Log under 2 units in the last place, Tanh
// under 4. The polynomials are those of the Cephes library's single-precision functions.

using VF [[gnu::vector_size(SINKFORGE_VECTOR_BYTES)]] = float;
using VI [[gnu::vector_size(SINKFORGE_VECTOR_BYTES)]] = int32_t;
using VD [[gnu::vector_size(SINKFORGE_VECTOR_BYTES * 2)]] = double;
// The same at any address.
using UnalignedVF [[gnu::vector_size(SINKFORGE_VECTOR_BYTES), gnu::aligned(4), gnu::may_alias]] =
    float;

constexpr int64_t kLanes = SINKFORGE_VECTOR_BYTES / 4;
constexpr float kInfinity = __builtin_inff();

#define SINKFORGE_INLINE inline __attribute__((always_inline))

SINKFORGE_INLINE VF Load(const float* p) { return *reinterpret_cast<const UnalignedVF*>(p); }
SINKFORGE_INLINE void Save(float* p, VF v) { *reinterpret_cast<UnalignedVF*>(p) = v; }
SINKFORGE_INLINE VF Broadcast(float x) { return VF{} + x; }

#if SINKFORGE_VECTOR_BYTES == 64
constexpr VI kLaneIndex = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr VI kInterleaveLow = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
constexpr VI kInterleaveHigh = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#elif SINKFORGE_VECTOR_BYTES == 32
constexpr VI kLaneIndex = {0, 1, 2, 3, 4, 5, 6, 7};
constexpr VI kInterleaveLow = {0, 8, 1, 9, 2, 10, 3, 11};
constexpr VI kInterleaveHigh = {4, 12, 5, 13, 6, 14, 7, 15};
#else
constexpr VI kLaneIndex = {0, 1, 2, 3};
constexpr VI kInterleaveLow = {0, 4, 1, 5};
constexpr VI kInterleaveHigh = {2, 6, 3, 7};
#endif

// The first n lanes from memory, zeros after.
SINKFORGE_INLINE VF LoadFirst(const float* p, int64_t n) {
  if (n >= kLanes) return Load(p);
  VF v = {};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
SINKFORGE_INLINE void SaveFirst(float* p, VF v, int64_t n) {
  if (n >= kLanes) {
    Save(p, v);
    return;
  }
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}

// Where a NaN is compared, the second argument wins.
SINKFORGE_INLINE VF Max(VF a, VF b) { return a > b ? a : b; }
SINKFORGE_INLINE VF Min(VF a, VF b) { return a < b ? a : b; }

SINKFORGE_INLINE float HorizontalSum(VF v) {
  // A fixed tree: lane i and lane i + half.
  if constexpr (kLanes == 16) v += __builtin_shuffle(v, (kLaneIndex + 8) & 15);
  if constexpr (kLanes >= 8) v += __builtin_shuffle(v, kLaneIndex ^ 4);
  v += __builtin_shuffle(v, kLaneIndex ^ 2);
  v += __builtin_shuffle(v, kLaneIndex ^ 1);
  return v[0];
}
SINKFORGE_INLINE float HorizontalMax(VF v) {
  if constexpr (kLanes == 16) v = Max(v, __builtin_shuffle(v, (kLaneIndex + 8) & 15));
  if constexpr (kLanes >= 8) v = Max(v, __builtin_shuffle(v, kLaneIndex ^ 4));
  v = Max(v, __builtin_shuffle(v, kLaneIndex ^ 2));
  v = Max(v, __builtin_shuffle(v, kLaneIndex ^ 1));
  return v[0];
}

SINKFORGE_INLINE VF Exp(VF x) {
  const VF low = Broadcast(-87.33654F);  // e^low is the smallest normal number
  const VF bounded = Min(Broadcast(88.37F), x);
  // Adding 1.5 * 2^23 rounds to an integer in the low bits; 127 more is the exponent's bias.
  const VF magic = Broadcast(12582912.0F + 127.0F);
  const VF shifted = bounded * 1.44269504088896341F + magic;
  const VF n = shifted - magic;
  const VF r = (bounded - n * 0.693359375F) - n * -2.12194440e-4F;
  VF p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const VF power = reinterpret_cast<VF>(reinterpret_cast<VI>(shifted) << 23);
  return x < low ? VF{} : p * power;
}

SINKFORGE_INLINE VF Log(VF x) {
  const VI bits = reinterpret_cast<VI>(x) - 0x3f3504f3;  // of sqrt(1/2): the mantissa's lower end
  const VF e = __builtin_convertvector(bits >> 23, VF);
  const VF f = reinterpret_cast<VF>((bits & 0x007fffff) + 0x3f3504f3) - 1.0F;
  VF p = f * 7.0376836292e-2F - 1.1514610310e-1F;
  p = p * f + 1.1676998740e-1F;
  p = p * f - 1.2420140846e-1F;
  p = p * f + 1.4249322787e-1F;
  p = p * f - 1.6668057665e-1F;
  p = p * f + 2.0000714765e-1F;
  p = p * f - 2.4999993993e-1F;
  p = p * f + 3.3333331174e-1F;
  const VF z = f * f;
  const VF tail = f * z * p + e * -2.12194440e-4F - 0.5F * z;
  const VF result = (f + tail) + e * 0.693359375F;
  return x == x ? result : x;
}

SINKFORGE_INLINE VF Tanh(VF x) {
  const VF a = x < 0.0F ? -x : x;
  const VF z = x * x;
  VF p = z * -5.70498872745e-3F + 2.06390887954e-2F;
  p = p * z - 5.37397155531e-2F;
  p = p * z + 1.33314422036e-1F;
  p = p * z - 3.33332819422e-1F;
  const VF near = p * z * x + x;
  const VF far = 1.0F - 2.0F / (Exp(a + a) + 1.0F);
  return a < 0.625F ? near : (x < 0.0F ? -far : far);
}

SINKFORGE_INLINE VF Sigmoid(VF x) { return 1.0F / (1.0F + Exp(-x)); }

// Interleaving row i with row i + half, as often as the lanes have bits, transposes.
SINKFORGE_INLINE void TransposeBlock(VF* rows) {
#pragma GCC unroll 4
  for (int64_t width = 1; width < kLanes; width *= 2) {
    VF next[kLanes];
#pragma GCC unroll 8
    for (int64_t i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = __builtin_shuffle(rows[i], rows[i + kLanes / 2], kInterleaveLow);
      next[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + kLanes / 2], kInterleaveHigh);
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}
