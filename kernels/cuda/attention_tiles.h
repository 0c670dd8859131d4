// Tiles of bfloat16 rows in shared memory, and the products of a warp on them, for the tensor-core
// attention kernels. A row of kHeadDim channels is cut into chunks of 16 bytes, and chunk c of row
// r lies at place Swizzle(r, c), so that the eight rows which one ldmatrix reads lie in eight
// different bank groups.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/ptx.h"

namespace sinkforge::kernels::cuda {

inline constexpr int kAttentionThreads = 128;  // four warps of 16 rows each
inline constexpr int kWarpRows = kPartialRows;
inline constexpr int kChunk = 8;  // channels of 16 bytes

template <int kHeadDim>
struct Tile {
  static constexpr int kChunks = kHeadDim / kChunk;  // of a row
  static_assert(kChunks == 4 || kChunks % 8 == 0);

  __device__ static __forceinline__ int Swizzle(int row, int chunk) {
    // Rows of 64 bytes: two of them share the 32 banks.
    return kChunks == 4 ? chunk ^ ((row >> 1) & 3) : chunk ^ (row & 7);
  }
  __device__ static __forceinline__ Bf16* At(Bf16* tile, int row, int chunk) {
    return tile + (row * kChunks + Swizzle(row, chunk)) * kChunk;
  }
  __device__ static __forceinline__ const Bf16* At(const Bf16* tile, int row, int chunk) {
    return tile + (row * kChunks + Swizzle(row, chunk)) * kChunk;
  }

  // Starts the copy of kRows rows by the whole block; rows from `valid` on become zeros.
  template <int kRows>
  __device__ static __forceinline__ void Load(Bf16* tile, const Bf16* from, int64_t stride,
                                              int valid) {
    constexpr int kCopies = kRows * kChunks / kAttentionThreads;
    static_assert(kCopies * kAttentionThreads == kRows * kChunks);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int index = static_cast<int>(threadIdx.x) + i * kAttentionThreads;
      const int row = index / kChunks;
      const int chunk = index % kChunks;
      const bool inside = row < valid;
      // An address outside the tensor is never formed.
      const Bf16* source = from + (inside ? row * stride : 0) + chunk * kChunk;
      CopyAsync(At(tile, row, chunk), source, inside);
    }
  }

  // The A fragment of the 16 rows from `row` and the 16 channels from 16 * step.
  __device__ static __forceinline__ void LoadA(unsigned (&a)[4], const Bf16* tile, int row,
                                               int step) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
    LoadMatrices(a, At(tile, row + lane % 16, 2 * step + lane / 16));
  }
  // B fragments of (channel, row): b[0..1] for the eight rows from `row`, b[2..3] for the next.
  __device__ static __forceinline__ void LoadB(unsigned (&b)[4], const Bf16* tile, int row,
                                               int step) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
    LoadMatrices(b, At(tile, row + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
  }
  // B fragments of (row, channel): rows from `row`, b[0..1] for the eight channels from 16 * pair,
  // b[2..3] for the next.
  __device__ static __forceinline__ void LoadTransposedB(unsigned (&b)[4], const Bf16* tile,
                                                         int row, int pair) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
    LoadMatricesTransposed(b, At(tile, row + lane % 16, 2 * pair + lane / 16));
  }

  // The A fragment of (channel, row): the 16 channels from 16 * pair and the 16 rows from `row`.
  __device__ static __forceinline__ void LoadTransposedA(unsigned (&a)[4], const Bf16* tile,
                                                         int row, int pair) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
    LoadMatricesTransposed(a, At(tile, row + lane / 16 * 8 + lane % 8, 2 * pair + lane / 8 % 2));
  }

  // s[n] = a x^T: the warp's 16 rows of tile `a` from `row` against all 8 kN rows of tile `x`.
  template <int kN>
  __device__ static __forceinline__ void MultiplyRows(float (&s)[kN][4], const Bf16* a, int row,
                                                      const Bf16* x) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (float& value : s[n]) value = 0.0F;
    }
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      unsigned a_fragment[4];
      LoadA(a_fragment, a, row, step);
#pragma unroll
      for (int n = 0; n < kN; n += 2) {
        unsigned b[4];
        LoadB(b, x, n * 8, step);
        MultiplyAdd(s[n], a_fragment, b[0], b[1]);
        MultiplyAdd(s[n + 1], a_fragment, b[2], b[3]);
      }
    }
  }

  // acc += p x: p has the warp's 16 rows and 8 kN columns in D fragments, which are A fragments of
  // the next product once rounded; x has 8 kN rows.
  template <int kN>
  __device__ static __forceinline__ void MultiplyChannels(float (&acc)[kHeadDim / 8][4],
                                                          const float (&p)[kN][4], const Bf16* x) {
#pragma unroll
    for (int step = 0; step < kN / 2; ++step) {
      const unsigned a[4] = {PackBf16(p[2 * step][0], p[2 * step][1]),
                             PackBf16(p[2 * step][2], p[2 * step][3]),
                             PackBf16(p[2 * step + 1][0], p[2 * step + 1][1]),
                             PackBf16(p[2 * step + 1][2], p[2 * step + 1][3])};
#pragma unroll
      for (int pair = 0; pair < kHeadDim / 16; ++pair) {
        unsigned b[4];
        LoadTransposedB(b, x, step * 16, pair);
        MultiplyAdd(acc[2 * pair], a, b[0], b[1]);
        MultiplyAdd(acc[2 * pair + 1], a, b[2], b[3]);
      }
    }
  }

  // Rounds the warp's 16 rows in D fragments into the rows of `tile` from `row`.
  __device__ static __forceinline__ void Put(const float (&acc)[kHeadDim / 8][4], Bf16* tile,
                                             int row) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const unsigned pair = PackBf16(acc[n][2 * half], acc[n][2 * half + 1]);
        Bf16* at = At(tile, row + lane / 4 + 8 * half, n) + lane % 4 * 2;
        memcpy(at, &pair, sizeof(pair));
      }
    }
  }

  // Writes the warp's 16 rows in D fragments to global memory, by way of its own rows of `stage`
  // (16 rows from `row`), so that the stores are of 16 bytes. Rows from `valid` on are left out.
  __device__ static __forceinline__ void Store(const float (&acc)[kHeadDim / 8][4], Bf16* stage,
                                               int row, Bf16* to, int64_t stride, int valid) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
    __syncwarp();  // The rows may still be read as operands, or by an earlier store.
    Put(acc, stage, row);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kWarpRows * kChunks / kWarpThreads; ++i) {
      const int index = lane + i * kWarpThreads;
      const int r = index / kChunks;
      const int chunk = index % kChunks;
      if (r >= valid) continue;
      *reinterpret_cast<uint4*>(to + r * stride + chunk * kChunk) =
          *reinterpret_cast<const uint4*>(At(stage, row + r, chunk));
    }
  }
};

// Of row L / 4 + 8 half of D fragments, one of the warp's 16.
template <int kN>
__device__ __forceinline__ void ScaleRow(float (&acc)[kN][4], int half, float factor) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    acc[n][2 * half] *= factor;
    acc[n][2 * half + 1] *= factor;
  }
}

// The sum over the four lanes that share a row of a D fragment, in each of them.
__device__ __forceinline__ float QuadSum(float value) {
  value += __shfl_xor_sync(kFullWarp, value, 1);
  return value + __shfl_xor_sync(kFullWarp, value, 2);
}
__device__ __forceinline__ float QuadMaximum(float value) {
  value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, 1));
  return fmaxf(value, __shfl_xor_sync(kFullWarp, value, 2));
}

}  // namespace sinkforge::kernels::cuda
