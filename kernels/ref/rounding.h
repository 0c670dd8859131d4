// What the readable ops keep their intermediate vectors and matrices in: as they were computed, or
// bfloat16, as an implementation in mixed precision that stores them would.
#pragma once

#include "kernels/bfloat16.h"

namespace sinkforge::kernels {

enum class Intermediates { kAsComputed, kBfloat16 };

template <typename Real>
void RoundAll(Intermediates intermediates, Real* values, int64_t count) {
  if (intermediates == Intermediates::kAsComputed) return;
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<Real>(FromBfloat16(RoundToBfloat16(static_cast<float>(values[i]))));
  }
}

}  // namespace sinkforge::kernels
