// The instructions that C++ has no name for, each wrapped once: matrix products of a warp, loads of
// their operands, asynchronous copies to shared memory. PTX ISA, sections of the same names.
//
// Fragments of mma.m16n8k16 in lane L, with g = L / 4 and c = 2 (L % 4):
//   A (16 x 16, row):  a[0] = A[g][c..c+1], a[1] = A[g+8][c..], a[2] = A[g][c+8..], a[3] =
//   A[g+8][c+8..] B (16 x 8, col):   b[0] = B[c..c+1][g], b[1] = B[c+8..][g] D (16 x 8): d[0..1] =
//   D[g][c..c+1], d[2..3] = D[g+8][c..c+1]
#pragma once

#include "kernels/cuda/device.h"

namespace sinkforge::kernels::cuda {

// Of Exp2 to the exponential, and back.
inline constexpr float kLog2E = 1.4426950408889634F;
inline constexpr float kLn2 = 0.6931471805599453F;

#if defined(__CUDACC__)

__device__ __forceinline__ unsigned SharedAddress(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// d += a b.
__device__ __forceinline__ void MultiplyAdd(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                            unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 x 8 matrices of 16-bit elements; lanes 8i to 8i+7 give the rows of matrix i. Lane L gets
// row L / 4, elements 2 (L % 4) and the next one.
__device__ __forceinline__ void LoadMatrices(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(row))
               : "memory");
}
// The same of the transposed matrices.
__device__ __forceinline__ void LoadMatricesTransposed(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(row))
               : "memory");
}

// 16 bytes from global to shared memory; zeros instead where `valid` is false, and then nothing is
// read.
__device__ __forceinline__ void CopyAsync(void* to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(SharedAddress(to)),
               "l"(from), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
// Until all but the newest kLeft groups of this thread are there.
template <int kLeft>
__device__ __forceinline__ void WaitCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
}

// 2^x with an error of about two units in the last place; results under 2^-126 are zero.
__device__ __forceinline__ float Exp2(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(power) : "f"(x));
  return power;
}

// 1 / x with an error of about one unit in the last place; results under 2^-126 are zero.
__device__ __forceinline__ float Reciprocal(float x) {
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(reciprocal) : "f"(x));
  return reciprocal;
}

#else

__device__ inline unsigned SharedAddress(const void* pointer) {
  return static_cast<unsigned>(static_cast<const unsigned char*>(pointer) -
                               emulation::SharedMemory());
}
__device__ inline void MultiplyAdd(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                   unsigned b1) {
  emulation::MultiplyAdd(d, a, b0, b1);
}
__device__ inline void LoadMatrices(unsigned (&r)[4], const void* row) {
  emulation::LoadMatrices(r, row, emulation::Order::kAsStored);
}
__device__ inline void LoadMatricesTransposed(unsigned (&r)[4], const void* row) {
  emulation::LoadMatrices(r, row, emulation::Order::kTransposed);
}
__device__ inline void CopyAsync(void* to, const void* from, bool valid) {
  emulation::CopyAsync(to, from, valid);
}
__device__ inline void CommitCopies() { emulation::CommitCopies(); }
template <int kLeft>
__device__ inline void WaitCopies() {
  emulation::WaitCopies(kLeft);
}
__device__ inline float Exp2(float x) { return emulation::Exp2(x); }
__device__ inline float Reciprocal(float x) { return 1.0F / x; }

#endif

// Two numbers rounded to bfloat16, the first in the lower half.
__device__ __forceinline__ unsigned PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  unsigned bits;
  static_assert(sizeof(pair) == sizeof(bits));
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

}  // namespace sinkforge::kernels::cuda
