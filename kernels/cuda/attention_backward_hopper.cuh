// Attention's backward for compute capability 9.0: the two kernels of attention_backward.cuh and
// their arithmetic, with bulk copies and the products of warp groups. A block has 128 rows (keys
// there, queries here), 64 a consumer group, and meets tiles of 64 of the others, which a producer
// warp copies three ahead. One group's arithmetic runs under the other's products.
//
//   keys     z^T = k q^T and dP^T = v dO^T by tiles in shared memory; P^T and dZ^T stay in
//            registers as operands of dV += (G P)^T dO and dK += dZ^T q
//   queries  z and dP, then dQ += dZ k
//
// dK and dV, 128 registers a thread with 128 channels, leave room for tiles of 64 and not more.
// Timed by tests/gpu/attention_bench.cc.
#pragma once

#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/tile_ring.h"

namespace sinkforge::kernels::cuda {

inline constexpr int kHopperBackwardTile = 64;
inline constexpr int kBackwardStages = 3;  // 195 of 227 KiB of shared memory with 128 channels
// The producer warp computes row numbers beside starting copies.
inline constexpr int kBackwardProducerRegisters = 40;
inline constexpr int kBackwardConsumerRegisters = 232;
static_assert(RegistersSuffice(kBackwardProducerRegisters, kBackwardConsumerRegisters));

// What both kernels have: two tensors whose rows stay, two whose tiles pass.
template <int kHeadDim>
struct HopperBackwardShared {
  using Block = SwizzledTile<kHopperRows, kHeadDim>;
  using Passing = SwizzledTile<kHopperBackwardTile, kHeadDim>;
  Bf16 block[2][Block::kElements];                       // k and v, or q and dU
  Bf16 passing[kBackwardStages][2][Passing::kElements];  // q and dU, or k and v
  Bf16 out[Block::kElements];                            // stores of 16 bytes are gathered here
  MemoryBarrier block_full;
  RingBarriers<kBackwardStages> ring;
};

struct HopperBackwardMaps {
  TensorMap block[2], passing[2];
};

template <int kHeadDim>
struct HopperBackwardKeysShared : HopperBackwardShared<kHeadDim> {
  RowNumbers<kHopperBackwardTile> rows[kBackwardStages];
};
template <int kHeadDim>
struct HopperBackwardQueriesShared : HopperBackwardShared<kHeadDim> {
  RowNumbers<kHopperRows> rows;
};

// Starts the copies of what stays, by one thread.
template <int kHeadDim>
__device__ __forceinline__ void LoadBlock(HopperBackwardShared<kHeadDim>& shared,
                                          const HopperBackwardMaps& maps, const TileAt& at) {
  using Block = typename HopperBackwardShared<kHeadDim>::Block;
  ArriveAndExpect(&shared.block_full, 2 * Block::kBytes);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    Block::CopyAsync(shared.block[i], &maps.block[i], at, &shared.block_full);
  }
}

// Starts the copies of the tiles of one stage, which is empty, by one thread.
template <int kHeadDim>
__device__ __forceinline__ void LoadPassing(HopperBackwardShared<kHeadDim>& shared, int stage,
                                            const HopperBackwardMaps& maps, const TileAt& at) {
  using Passing = typename HopperBackwardShared<kHeadDim>::Passing;
  ArriveAndExpect(&shared.ring.full[stage], 2 * Passing::kBytes);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    Passing::CopyAsync(shared.passing[stage][i], &maps.passing[i], at, &shared.ring.full[stage]);
  }
}

// s and dp of the group's 64 rows and a stage's tile; waits for them.
template <int kHeadDim>
__device__ __forceinline__ void MultiplyBlock(const HopperBackwardShared<kHeadDim>& shared,
                                              int stage, int group,
                                              float (&s)[kHopperBackwardTile / 8][4],
                                              float (&dp)[kHopperBackwardTile / 8][4]) {
  using Block = typename HopperBackwardShared<kHeadDim>::Block;
  using Passing = typename HopperBackwardShared<kHeadDim>::Passing;
  PinRegisters(s);
  PinRegisters(dp);
  FenceProducts();
  StartRowProducts<Block, Passing>(s, shared.block[0], group * 64, shared.passing[stage][0]);
  StartRowProducts<Block, Passing>(dp, shared.block[1], group * 64, shared.passing[stage][1]);
  CommitProducts();
  WaitProducts<0>();
  PinRegisters(s);
  PinRegisters(dp);
}

template <int kN>
__device__ __forceinline__ void StoreScaled(float (&acc)[kN][4], float scale, Bf16* stage,
                                            int stage_row, Bf16* to, int64_t stride, int valid) {
  ScaleRow(acc, 0, scale);
  ScaleRow(acc, 1, scale);
  Tile<kN * 8>::Store(acc, stage, stage_row, to, stride, valid);
}

// Where a block of the keys kernel is, and what it meets: every query head of the group, and of
// each the tiles from the diagonal on, in this order on both sides of the ring.
struct KeysPlace {
  int key0, kv_head, b;
  int first_head, heads_end;
  int first_tile, tiles_end;

  __device__ explicit KeysPlace(const AttentionGeometry& shape)
      : key0(static_cast<int>(blockIdx.x) * kHopperRows),
        kv_head(static_cast<int>(blockIdx.y)),
        b(static_cast<int>(blockIdx.z)),
        first_head(kv_head * (shape.heads / shape.kv_heads)),
        heads_end(first_head + shape.heads / shape.kv_heads),
        first_tile(key0 / kHopperBackwardTile),
        tiles_end((shape.sequence + kHopperBackwardTile - 1) / kHopperBackwardTile) {}
};

// The producer warp of the keys kernel.
template <int kHeadDim>
__device__ __forceinline__ void ProduceQueries(const AttentionBackwardKernelArgs<Bf16>& args,
                                               const HopperBackwardMaps& maps,
                                               const KeysPlace& place,
                                               HopperBackwardKeysShared<kHeadDim>& shared) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane == 0) LoadBlock<kHeadDim>(shared, maps, {0, place.kv_head, place.key0, place.b});
  RingPlace<kBackwardStages> ring;
  for (int h = place.first_head; h < place.heads_end; ++h) {
    for (int tile = place.first_tile; tile < place.tiles_end; ++tile) {
      const int query0 = tile * kHopperBackwardTile;
      ring.WaitUntilEmpty(shared.ring);
      if (lane == 0) LoadPassing<kHeadDim>(shared, ring.stage, maps, {0, h, query0, place.b});
#pragma unroll  // so that the loads of a lane's rows are under way together
      for (int i = 0; i < kHopperBackwardTile; i += kWarpThreads) {
        LoadRowNumbers(args, place.b, h, query0, lane + i, &shared.rows[ring.stage]);
      }
      __syncwarp();
      if (lane == 0) Arrive(&shared.ring.full[ring.stage]);
      ring.Advance();
    }
  }
}

// A consumer group of the keys kernel.
template <int kHeadDim>
__device__ __forceinline__ void ConsumeQueries(const AttentionBackwardKernelArgs<Bf16>& args,
                                               const KeysPlace& place, int group,
                                               HopperBackwardKeysShared<kHeadDim>& shared) {
  using Passing = typename HopperBackwardShared<kHeadDim>::Passing;
  const AttentionGeometry& shape = args.geometry;
  const int group_warp = static_cast<int>(threadIdx.x) % kWarpGroupThreads / kWarpThreads;
  const int row_in_block = group * 64 + group_warp * kWarpRows;
  const int key0 = place.key0 + row_in_block;
  const float scale_log2 = shape.scale * kLog2E;
  float d_k[kHeadDim / 8][4] = {};
  float d_v[kHeadDim / 8][4] = {};
  RingPlace<kBackwardStages> ring;
  Wait(&shared.block_full, 0);
  for (int h = place.first_head; h < place.heads_end; ++h) {
    for (int tile = place.first_tile; tile < place.tiles_end; ++tile) {
      float s[kHopperBackwardTile / 8][4];
      float dp[kHopperBackwardTile / 8][4];
      unsigned p[kHopperBackwardTile / kProductDepth][4];
      unsigned dz[kHopperBackwardTile / kProductDepth][4];
      ring.WaitUntilFull(shared.ring);
      MultiplyBlock<kHeadDim>(shared, ring.stage, group, s, dp);
      KeysTileGradient(s, dp, shared.rows[ring.stage], scale_log2, key0,
                       tile * kHopperBackwardTile);
      RoundToOperands(s, p);
      RoundToOperands(dp, dz);
      PinRegisters(d_v);
      PinRegisters(d_k);
      PinRegisters(p);
      PinRegisters(dz);
      FenceProducts();
      StartChannelProducts<Passing>(d_v, p, shared.passing[ring.stage][1]);
      StartChannelProducts<Passing>(d_k, dz, shared.passing[ring.stage][0]);
      CommitProducts();
      WaitProducts<0>();
      PinRegisters(d_v);
      PinRegisters(d_k);
      ring.Release(shared.ring);
    }
  }
  const int valid = shape.sequence - key0;
  const int64_t to = valid > 0 ? shape.key(place.b, key0, place.kv_head) : 0;
  StoreScaled(d_k, shape.scale, shared.out, row_in_block, args.d_k + to, shape.key_stride(), valid);
  Tile<kHeadDim>::Store(d_v, shared.out, row_in_block, args.d_v + to, shape.key_stride(), valid);
}

template <int kHeadDim>
__global__ void __launch_bounds__(kHopperThreads, 1) AttentionBackwardKeysHopperKernel(
    const __grid_constant__ AttentionBackwardKernelArgs<Bf16> args,
    const __grid_constant__ HopperBackwardMaps maps) {
#if SINKFORGE_HOPPER_CODE
  auto& shared = *reinterpret_cast<HopperBackwardKeysShared<kHeadDim>*>(SharedMemory());
  const int warp_group =
      __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / kWarpGroupThreads, 0);
  if (threadIdx.x == 0) {
    InitBarrier(&shared.block_full, 1);
    shared.ring.Init(2);  // the copies' arrival, and the row numbers'
    FenceBarrierInit();
  }
  __syncthreads();
  const KeysPlace place(args.geometry);
  if (warp_group == 0) {
    ReleaseRegisters<kBackwardProducerRegisters>();
    if (threadIdx.x < kWarpThreads) ProduceQueries<kHeadDim>(args, maps, place, shared);
  } else {
    ClaimRegisters<kBackwardConsumerRegisters>();
    ConsumeQueries<kHeadDim>(args, place, warp_group - 1, shared);
  }
#endif
}

// Where a block of the queries kernel is: the longest rows start first.
struct QueriesPlace {
  int row0, h, kv_head, b, tiles;

  __device__ explicit QueriesPlace(const AttentionGeometry& shape)
      : row0(static_cast<int>(gridDim.x - 1 - blockIdx.x) * kHopperRows),
        h(static_cast<int>(blockIdx.y)),
        kv_head(h / (shape.heads / shape.kv_heads)),
        b(static_cast<int>(blockIdx.z)),
        tiles((min(row0 + kHopperRows, shape.sequence) + kHopperBackwardTile - 1) /
              kHopperBackwardTile) {}
};

// A consumer group of the queries kernel.
template <int kHeadDim>
__device__ __forceinline__ void ConsumeKeys(const AttentionBackwardKernelArgs<Bf16>& args,
                                            const QueriesPlace& place, int group,
                                            HopperBackwardQueriesShared<kHeadDim>& shared) {
  using Passing = typename HopperBackwardShared<kHeadDim>::Passing;
  const AttentionGeometry& shape = args.geometry;
  const int group_warp = static_cast<int>(threadIdx.x) % kWarpGroupThreads / kWarpThreads;
  const int row_in_block = group * 64 + group_warp * kWarpRows;
  const float scale_log2 = shape.scale * kLog2E;
  float d_q[kHeadDim / 8][4] = {};
  RingPlace<kBackwardStages> ring;
  Wait(&shared.block_full, 0);
  for (int tile = 0; tile < place.tiles; ++tile) {
    float s[kHopperBackwardTile / 8][4];
    float dp[kHopperBackwardTile / 8][4];
    unsigned dz[kHopperBackwardTile / kProductDepth][4];
    ring.WaitUntilFull(shared.ring);
    MultiplyBlock<kHeadDim>(shared, ring.stage, group, s, dp);
    QueriesTileGradient(s, dp, shared.rows, scale_log2, tile * kHopperBackwardTile, place.row0,
                        row_in_block);
    RoundToOperands(s, dz);
    PinRegisters(d_q);
    PinRegisters(dz);
    FenceProducts();
    StartChannelProducts<Passing>(d_q, dz, shared.passing[ring.stage][0]);
    CommitProducts();
    WaitProducts<0>();
    PinRegisters(d_q);
    ring.Release(shared.ring);
  }
  const int row0 = place.row0 + row_in_block;
  const int valid = shape.sequence - row0;
  const int64_t to = valid > 0 ? shape.query(place.b, row0, place.h) : 0;
  StoreScaled(d_q, shape.scale, shared.out, row_in_block, args.d_q + to, shape.query_stride(),
              valid);
}

template <int kHeadDim>
__global__ void __launch_bounds__(kHopperThreads, 1) AttentionBackwardQueriesHopperKernel(
    const __grid_constant__ AttentionBackwardKernelArgs<Bf16> args,
    const __grid_constant__ HopperBackwardMaps maps) {
#if SINKFORGE_HOPPER_CODE
  auto& shared = *reinterpret_cast<HopperBackwardQueriesShared<kHeadDim>*>(SharedMemory());
  const int warp_group =
      __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / kWarpGroupThreads, 0);
  const QueriesPlace place(args.geometry);
  if (threadIdx.x == 0) {
    InitBarrier(&shared.block_full, 1);
    shared.ring.Init(1);
    FenceBarrierInit();
  }
  if (threadIdx.x < kHopperRows) {
    LoadRowNumbers(args, place.b, place.h, place.row0, static_cast<int>(threadIdx.x), &shared.rows);
  }
  __syncthreads();
  if (warp_group == 0) {
    ReleaseRegisters<kBackwardProducerRegisters>();
    if (threadIdx.x != 0) return;
    LoadBlock<kHeadDim>(shared, maps, {0, place.h, place.row0, place.b});
    RingPlace<kBackwardStages> ring;
    for (int tile = 0; tile < place.tiles; ++tile) {
      ring.WaitUntilEmpty(shared.ring);
      LoadPassing<kHeadDim>(shared, ring.stage, maps,
                            {0, place.kv_head, tile * kHopperBackwardTile, place.b});
      ring.Advance();
    }
  } else {
    ClaimRegisters<kBackwardConsumerRegisters>();
    ConsumeKeys<kHeadDim>(args, place, warp_group - 1, shared);
  }
#endif
}

template <int kHeadDim>
void LaunchAttentionBackwardHopper(const AttentionBackwardKernelArgs<Bf16>& args,
                                   cudaStream_t stream) {
  const AttentionGeometry& shape = args.geometry;
  const auto map = [&](const Bf16* data, int heads, int rows) {
    return MakeTensorMap({data, shape.batch, shape.sequence, heads, kHeadDim}, rows);
  };
  const auto blocks = BlocksFor(shape.sequence, kHopperRows);
  const auto batch = static_cast<unsigned>(shape.batch);
  HopperBackwardMaps maps;
  maps.block[0] = map(args.k, shape.kv_heads, kHopperRows);
  maps.block[1] = map(args.v, shape.kv_heads, kHopperRows);
  maps.passing[0] = map(args.q, shape.heads, kHopperBackwardTile);
  maps.passing[1] = map(args.d_u, shape.heads, kHopperBackwardTile);
  Launch(AttentionBackwardKeysHopperKernel<kHeadDim>,
         {dim3(blocks, static_cast<unsigned>(shape.kv_heads), batch), kHopperThreads,
          sizeof(HopperBackwardKeysShared<kHeadDim>)},
         stream, args, maps);
  maps.block[0] = map(args.q, shape.heads, kHopperRows);
  maps.block[1] = map(args.d_u, shape.heads, kHopperRows);
  maps.passing[0] = map(args.k, shape.kv_heads, kHopperBackwardTile);
  maps.passing[1] = map(args.v, shape.kv_heads, kHopperBackwardTile);
  Launch(AttentionBackwardQueriesHopperKernel<kHeadDim>,
         {dim3(blocks, static_cast<unsigned>(shape.heads), batch), kHopperThreads,
          sizeof(HopperBackwardQueriesShared<kHeadDim>)},
         stream, args, maps);
}

}  // namespace sinkforge::kernels::cuda
