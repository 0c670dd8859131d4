// Attention's backward on tensor cores (compute capability 8.0 and up), by default in two kernels
// without atomics. Both recompute P = exp(z - L) and take delta and the importance's column from
// the row terms (attention_rows.cu):
//
//   keys     one block a (sample, key head, 64 keys): for every query head of the group and every
//            query tile from the diagonal on, P^T = exp(k q^T / sqrt(d) - L), dV += (G P)^T dO,
//            dZ^T = P o (G v dO^T - column - delta), dK += dZ^T q. The keys are the rows of the
//            products, so that P^T and dZ^T stay in registers as operands
//   queries  one block a (sample, head, 64 queries): dZ again, dQ += dZ k
//
// In any order (d_q_sum), the first kernel does the second's work as well: it has dZ^T of a tile,
// turns it in shared memory, and adds its keys' part of dQ to float32 sums with atomics, which are
// rounded at the end. Five products in place of seven, float32 additions of dQ for every block of
// keys, and other bits each time.
//
// Accumulated in float32; G P and dZ are rounded to bfloat16 before their products.
#pragma once

#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/ops.h"

namespace sinkforge::kernels::cuda {

// Query rows of a tile of the keys kernel. With 128 channels, dK and dV alone are 128 registers.
template <int kHeadDim>
inline constexpr int kQueryTile = kHeadDim == 128 ? 32 : 64;
inline constexpr int kKeyBlock = 64;
inline constexpr int kKeyTile = 64;  // of the queries kernel

// What a tile of queries has beside its vectors.
template <int kRows>
struct RowNumbers {
  float lse[kRows];  // in units of log2
  float delta[kRows];
  float scale[kRows];
  float column[kRows];
};

// Of row i; rows past the end get numbers that make P zero.
template <int kRows>
__device__ __forceinline__ void LoadRowNumbers(const AttentionBackwardKernelArgs<Bf16>& args, int b,
                                               int h, int row0, int i, RowNumbers<kRows>* to) {
  const int row = row0 + i;
  const bool inside = row < args.geometry.sequence;
  const int64_t stat = inside ? args.geometry.stat(b, h, row) : 0;
  to->lse[i] = inside ? args.lse[stat] * kLog2E : INFINITY;
  to->delta[i] = inside ? args.delta[stat] : 0.0F;
  to->scale[i] = inside && args.row_scale != nullptr ? args.row_scale[stat] : 1.0F;
  to->column[i] = ImportanceColumn(args.config, args.importance_gradient, h, row);
}

// Of the keys kernel's tiles of dZ^T; none where the order is fixed.
template <int kHeadDim, CudaGradientOrder kOrder>
struct TurnedTile {};
template <int kHeadDim>
struct TurnedTile<kHeadDim, CudaGradientOrder::kAny> {
  Bf16 d_z[kKeyBlock * kQueryTile<kHeadDim>];  // [key, query]
};

template <int kHeadDim, CudaGradientOrder kOrder>
struct BackwardKeysShared {
  Bf16 k[kKeyBlock * kHeadDim];
  Bf16 v[kKeyBlock * kHeadDim];
  Bf16 q[2][kQueryTile<kHeadDim> * kHeadDim];
  Bf16 d_u[2][kQueryTile<kHeadDim> * kHeadDim];
  RowNumbers<kQueryTile<kHeadDim>> rows[2];
  TurnedTile<kHeadDim, kOrder> turned;
};

// z^T and dP^T of a tile to G P^T (in s) and dZ^T (in dp), both without the logits' scale. Only
// tiles on the diagonal have a mask, and only one warp of all has the first key.
template <int kN>
__device__ __forceinline__ void KeysTileGradient(float (&s)[kN][4], float (&dp)[kN][4],
                                                 const RowNumbers<kN * 8>& rows, float scale_log2,
                                                 int key0, int query0) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  if (key0 + kWarpRows - 1 > query0) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int query = query0 + n * 8 + lane % 4 * 2 + i % 2;
        if (key0 + lane / 4 + i / 2 * 8 > query) s[n][i] = -INFINITY;
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) dp[n][i] *= rows.scale[n * 8 + lane % 4 * 2 + i % 2];
  }
  if (key0 == 0 && lane < 4) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) dp[n][i] -= rows.column[n * 8 + lane * 2 + i];
    }
  }
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int query = n * 8 + lane % 4 * 2 + i % 2;
      const float p = Exp2(s[n][i] * scale_log2 - rows.lse[query]);
      dp[n][i] = p * (dp[n][i] - rows.delta[query]);
      s[n][i] = p * rows.scale[query];
    }
  }
}

// dQ of a tile of queries += dZ k, over the block's keys: each warp has 16 of the queries, and
// where there are fewer than 64 of those, a part of the channels. `to` is the first query's.
template <int kHeadDim>
__device__ __forceinline__ void AddQueriesGradient(const Bf16* d_z, const Bf16* k, float scale,
                                                   float* to, int64_t stride, int valid) {
  constexpr int kQueries = kQueryTile<kHeadDim>;
  constexpr int kGroups = kQueries / kWarpRows;
  constexpr int kParts = kAttentionThreads / kWarpThreads / kGroups;
  constexpr int kPairs = kHeadDim / 16 / kParts;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int group = warp % kGroups;
  const int first_pair = warp / kGroups * kPairs;
  float d_q[2 * kPairs][4] = {};
#pragma unroll
  for (int step = 0; step < kKeyBlock / 16; ++step) {
    unsigned a[4];
    Tile<kQueries>::LoadTransposedA(a, d_z, step * 16, group);
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      unsigned b[4];
      Tile<kHeadDim>::LoadTransposedB(b, k, step * 16, first_pair + pair);
      MultiplyAdd(d_q[2 * pair], a, b[0], b[1]);
      MultiplyAdd(d_q[2 * pair + 1], a, b[2], b[3]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = group * kWarpRows + lane / 4 + 8 * half;
    if (row >= valid) continue;
    float* at = to + row * stride + first_pair * 16 + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < 2 * kPairs; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        // Blocks of keys come in any order, and so do the roundings of their sum: asked for.
        atomicAdd(at + n * 8 + i, d_q[n][2 * half + i] * scale);
      }
    }
  }
}

template <int kHeadDim, CudaGradientOrder kOrder>
__global__ void __launch_bounds__(kAttentionThreads)
    AttentionBackwardKeysKernel(AttentionBackwardKernelArgs<Bf16> args) {
  using Tiles = Tile<kHeadDim>;
  constexpr int kQueries = kQueryTile<kHeadDim>;
  auto& shared = *reinterpret_cast<BackwardKeysShared<kHeadDim, kOrder>*>(SharedMemory());
  const AttentionGeometry& shape = args.geometry;
  // The first key blocks meet the most queries, and start first.
  const int block_key0 = static_cast<int>(blockIdx.x) * kKeyBlock;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int b = static_cast<int>(blockIdx.z);
  const int group = shape.heads / shape.kv_heads;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpThreads * kWarpRows;
  const int key0 = block_key0 + warp_row;
  const int first_tile = block_key0 / kQueries;
  const int tiles = (shape.sequence + kQueries - 1) / kQueries - first_tile;  // of one head
  const int turns = tiles * group;

  const auto load_queries = [&](int turn) {
    const int h = kv_head * group + turn / tiles;
    const int query0 = (first_tile + turn % tiles) * kQueries;
    const int64_t at = shape.query(b, query0, h);
    const int valid = shape.sequence - query0;
    Tiles::template Load<kQueries>(shared.q[turn % 2], args.q + at, shape.query_stride(), valid);
    Tiles::template Load<kQueries>(shared.d_u[turn % 2], args.d_u + at, shape.query_stride(),
                                   valid);
    CommitCopies();
    const int row = static_cast<int>(threadIdx.x);
    if (row < kQueries) LoadRowNumbers(args, b, h, query0, row, &shared.rows[turn % 2]);
  };
  const int64_t key_at = shape.key(b, block_key0, kv_head);
  const int valid_keys = shape.sequence - block_key0;
  Tiles::template Load<kKeyBlock>(shared.k, args.k + key_at, shape.key_stride(), valid_keys);
  Tiles::template Load<kKeyBlock>(shared.v, args.v + key_at, shape.key_stride(), valid_keys);
  load_queries(0);

  float d_k[kHeadDim / 8][4] = {};
  float d_v[kHeadDim / 8][4] = {};
  const float scale_log2 = shape.scale * kLog2E;
  for (int turn = 0; turn < turns; ++turn) {
    if (turn + 1 < turns) {
      load_queries(turn + 1);
      WaitCopies<1>();
    } else {
      WaitCopies<0>();
    }
    __syncthreads();
    float s[kQueries / 8][4];
    float dp[kQueries / 8][4];
    Tiles::MultiplyRows(s, shared.k, warp_row, shared.q[turn % 2]);
    Tiles::MultiplyRows(dp, shared.v, warp_row, shared.d_u[turn % 2]);
    KeysTileGradient(s, dp, shared.rows[turn % 2], scale_log2, key0,
                     (first_tile + turn % tiles) * kQueries);
    Tiles::MultiplyChannels(d_v, s, shared.d_u[turn % 2]);
    Tiles::MultiplyChannels(d_k, dp, shared.q[turn % 2]);
    if constexpr (kOrder == CudaGradientOrder::kAny) {
      Tile<kQueries>::Put(dp, shared.turned.d_z, warp_row);
      __syncthreads();
      const int query0 = (first_tile + turn % tiles) * kQueries;
      const int h = kv_head * group + turn / tiles;
      AddQueriesGradient<kHeadDim>(shared.turned.d_z, shared.k, shape.scale,
                                   args.d_q_sum + shape.query(b, query0, h), shape.query_stride(),
                                   shape.sequence - query0);
    }
    __syncthreads();  // The next iteration's copies go where this one has read.
  }
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
    for (float& value : d_k[n]) value *= shape.scale;
  }
  const int valid = shape.sequence - key0;
  const int64_t to = valid > 0 ? shape.key(b, key0, kv_head) : 0;
  Tiles::Store(d_k, shared.k, warp_row, args.d_k + to, shape.key_stride(), valid);
  Tiles::Store(d_v, shared.v, warp_row, args.d_v + to, shape.key_stride(), valid);
}

template <int kHeadDim>
struct BackwardQueriesShared {
  Bf16 q[kRowBlock * kHeadDim];
  Bf16 d_u[kRowBlock * kHeadDim];
  Bf16 k[2][kKeyTile * kHeadDim];
  Bf16 v[2][kKeyTile * kHeadDim];
  RowNumbers<kRowBlock> rows;
};

// z and dP of a tile to dZ (in s), without the logits' scale. Only tiles on the diagonal have a
// mask.
template <int kN, int kRows>
__device__ __forceinline__ void QueriesTileGradient(float (&s)[kN][4], const float (&dp)[kN][4],
                                                    const RowNumbers<kRows>& rows, float scale_log2,
                                                    int key0, int block_row0, int warp_row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  if (key0 + kN * 8 - 1 > block_row0 + warp_row) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = block_row0 + warp_row + lane / 4 + i / 2 * 8;
        if (key0 + n * 8 + lane % 4 * 2 + i % 2 > row) s[n][i] = -INFINITY;
      }
    }
  }
  const bool has_first = key0 == 0 && lane % 4 == 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int local = warp_row + lane / 4 + 8 * half;
    const float first_column = has_first ? rows.column[local] : 0.0F;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& z = s[n][2 * half + i];
        const float p = Exp2(z * scale_log2 - rows.lse[local]);
        const float column = n == 0 && i == 0 ? first_column : 0.0F;
        z = p * (dp[n][2 * half + i] * rows.scale[local] - column - rows.delta[local]);
      }
    }
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kAttentionThreads)
    AttentionBackwardQueriesKernel(AttentionBackwardKernelArgs<Bf16> args) {
  using Tiles = Tile<kHeadDim>;
  auto& shared = *reinterpret_cast<BackwardQueriesShared<kHeadDim>*>(SharedMemory());
  const AttentionGeometry& shape = args.geometry;
  const int row_block = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int h = static_cast<int>(blockIdx.y);
  const int b = static_cast<int>(blockIdx.z);
  const int kv_head = h / (shape.heads / shape.kv_heads);
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpThreads * kWarpRows;
  const int block_row0 = row_block * kRowBlock;
  const int tiles = (min(block_row0 + kRowBlock, shape.sequence) + kKeyTile - 1) / kKeyTile;

  const auto load_keys = [&](int tile) {
    const int key0 = tile * kKeyTile;
    const int64_t at = shape.key(b, key0, kv_head);
    const int valid = shape.sequence - key0;
    Tiles::template Load<kKeyTile>(shared.k[tile % 2], args.k + at, shape.key_stride(), valid);
    Tiles::template Load<kKeyTile>(shared.v[tile % 2], args.v + at, shape.key_stride(), valid);
    CommitCopies();
  };
  const int64_t query_at = shape.query(b, block_row0, h);
  const int valid_rows = shape.sequence - block_row0;
  Tiles::template Load<kRowBlock>(shared.q, args.q + query_at, shape.query_stride(), valid_rows);
  Tiles::template Load<kRowBlock>(shared.d_u, args.d_u + query_at, shape.query_stride(),
                                  valid_rows);
  const int row = static_cast<int>(threadIdx.x);
  if (row < kRowBlock) LoadRowNumbers(args, b, h, block_row0, row, &shared.rows);
  load_keys(0);

  float d_q[kHeadDim / 8][4] = {};
  const float scale_log2 = shape.scale * kLog2E;
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) {
      load_keys(tile + 1);
      WaitCopies<1>();
    } else {
      WaitCopies<0>();
    }
    __syncthreads();
    float s[kKeyTile / 8][4];
    float dp[kKeyTile / 8][4];
    Tiles::MultiplyRows(s, shared.q, warp_row, shared.k[tile % 2]);
    Tiles::MultiplyRows(dp, shared.d_u, warp_row, shared.v[tile % 2]);
    QueriesTileGradient(s, dp, shared.rows, scale_log2, tile * kKeyTile, block_row0, warp_row);
    Tiles::MultiplyChannels(d_q, s, shared.k[tile % 2]);
    __syncthreads();  // The next iteration's copies go where this one has read.
  }
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
    for (float& value : d_q[n]) value *= shape.scale;
  }
  const int row0 = block_row0 + warp_row;
  const int valid = shape.sequence - row0;
  const int64_t to = valid > 0 ? shape.query(b, row0, h) : 0;
  Tiles::Store(d_q, shared.q, warp_row, args.d_q + to, shape.query_stride(), valid);
}

template <int kHeadDim, CudaGradientOrder kOrder>
void LaunchBackwardKeys(const AttentionBackwardKernelArgs<Bf16>& args, cudaStream_t stream) {
  const AttentionGeometry& shape = args.geometry;
  Launch(AttentionBackwardKeysKernel<kHeadDim, kOrder>,
         {dim3(BlocksFor(shape.sequence, kKeyBlock), static_cast<unsigned>(shape.kv_heads),
               static_cast<unsigned>(shape.batch)),
          kAttentionThreads, sizeof(BackwardKeysShared<kHeadDim, kOrder>)},
         stream, args);
}

template <int kHeadDim>
void LaunchAttentionBackward(const AttentionBackwardKernelArgs<Bf16>& args, cudaStream_t stream) {
  const AttentionGeometry& shape = args.geometry;
  const auto batch = static_cast<unsigned>(shape.batch);
  if (args.d_q_sum != nullptr) {
    const int64_t count = shape.batch * shape.sequence * shape.query_stride();
    CheckCuda(cudaMemsetAsync(args.d_q_sum, 0, static_cast<size_t>(count) * sizeof(float), stream),
              "sums of the queries' gradients");
    LaunchBackwardKeys<kHeadDim, CudaGradientOrder::kAny>(args, stream);
    LaunchRound(args.d_q_sum, count, args.d_q, stream);
    return;
  }
  LaunchBackwardKeys<kHeadDim, CudaGradientOrder::kFixed>(args, stream);
  Launch(AttentionBackwardQueriesKernel<kHeadDim>,
         {dim3(BlocksFor(shape.sequence, kRowBlock), static_cast<unsigned>(shape.heads), batch),
          kAttentionThreads, sizeof(BackwardQueriesShared<kHeadDim>)},
         stream, args);
}

}  // namespace sinkforge::kernels::cuda
