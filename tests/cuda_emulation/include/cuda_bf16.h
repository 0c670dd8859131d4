// Stands in for the CUDA header of the same name: bfloat16 for the processor.
#pragma once

#include "kernels/bfloat16.h"

struct __nv_bfloat16 {
  uint16_t bits;
};
struct __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
inline float __bfloat162float(__nv_bfloat16 value) {
  return sinkforge::kernels::FromBfloat16(value.bits);
}
inline __nv_bfloat16 __float2bfloat16(float value) {
  return {sinkforge::kernels::RoundToBfloat16(value)};
}
inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
  return {__float2bfloat16(low), __float2bfloat16(high)};
}
