// Picks the widest level that this build and this processor have, and holds the scratch sizes that
// are common to all levels. Compiled for the baseline.
#include <initializer_list>

#include "kernels/cpu/simd_kernels.h"

namespace sinkforge::kernels {

extern const SimdKernels kSimdKernelsBaseline;
#ifdef SINKFORGE_X86_LEVELS
extern const SimdKernels kSimdKernelsAvx2;
extern const SimdKernels kSimdKernelsAvx512;
#endif

namespace {

int64_t RoundUpToLanes(int64_t n) {
  return (n + kSimdLanesMax - 1) / kSimdLanesMax * kSimdLanesMax;
}

}  // namespace

int64_t AttentionPaddedDim(int64_t head_dim) { return RoundUpToLanes(head_dim); }
int64_t AttentionPaddedRows(int64_t sequence) { return RoundUpToLanes(sequence); }

int64_t AttentionForwardScratch(int64_t head_dim, int64_t rows) {
  const int64_t dim = AttentionPaddedDim(head_dim);
  const int64_t padded = AttentionPaddedRows(rows);
  return 2 * dim * kAttentionForwardKeys + 2 * padded * dim +
         kAttentionRowTile * kAttentionForwardKeys + (2 + kSimdLanesMax) * padded;
}

int64_t AttentionBackwardScratch(int64_t head_dim) {
  return (5 * AttentionPaddedDim(head_dim) + 3 * kAttentionRowTile) * kAttentionBackwardKeys;
}

const SimdKernels* FindSimdKernels(SimdLevel level) {
  switch (level) {
    case SimdLevel::kBaseline:
      return &kSimdKernelsBaseline;
#ifdef SINKFORGE_X86_LEVELS
    // The built-in asks the operating system as well, whether it saves the wide registers.
    case SimdLevel::kAvx2:
      if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return &kSimdKernelsAvx2;
      }
      return nullptr;
    case SimdLevel::kAvx512:
      if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
          __builtin_cpu_supports("fma")) {
        return &kSimdKernelsAvx512;
      }
      return nullptr;
#else
    case SimdLevel::kAvx2:
    case SimdLevel::kAvx512:
      return nullptr;
#endif
  }
  return nullptr;
}

const SimdKernels& BestSimdKernels() {
  for (SimdLevel level : {SimdLevel::kAvx512, SimdLevel::kAvx2}) {
    const SimdKernels* found = FindSimdKernels(level);
    if (found != nullptr) return *found;
  }
  return kSimdKernelsBaseline;
}

}  // namespace sinkforge::kernels
