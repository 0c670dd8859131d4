// Attention's forward for compute capability 9.0, the arithmetic of attention_forward.cuh: blocks
// that stay, one a multiprocessor, each of which takes (sample, head, 128 query rows) after
// (sample, head, 128 query rows) from a counter until none is left.
//
//   producer   one warp group, of which one thread starts the bulk copies: queries, then keys and
//              values in tiles of 128, two of each ahead
//   consumers  two warp groups of 64 query rows. While the matrix units do z = q k^T of a tile and
//              P v of the tile before, the group's own softmax waits for z alone; and the groups
//              take turns at starting products, so that one's softmax runs under the other's
//
// Accumulators are float32; P is rounded to bfloat16 and stays in registers. Bytes: q, k, v and out
// once, two float32 numbers a row; k and v are read again for every row block, from the cache:
// (sample, head) pairs are worked on in sections whose keys and values it holds, the longest rows
// of a section first. Timed by tests/gpu/attention_bench.cc.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/attention_forward_rows.cuh"
#include "kernels/cuda/tile_ring.h"

namespace sinkforge::kernels::cuda {

// As many keys as rows, so that both groups meet the same tiles and only the last has a mask.
inline constexpr int kHopperKeys = kHopperRows;
inline constexpr int kForwardStages = 2;  // with 128 channels, three do not fit shared memory
inline constexpr int kProducerRegisters = 24;
inline constexpr int kConsumerRegisters = 240;
static_assert(RegistersSuffice(kProducerRegisters, kConsumerRegisters));

template <int kHeadDim>
struct HopperForwardShared {
  using Rows = SwizzledTile<kHopperRows, kHeadDim>;
  using Keys = SwizzledTile<kHopperKeys, kHeadDim>;
  Bf16 q[Rows::kElements];
  Bf16 k[kForwardStages][Keys::kElements];
  Bf16 v[kForwardStages][Keys::kElements];
  Bf16 out[Rows::kElements];  // stores of 16 bytes are gathered here
  MemoryBarrier q_full, q_empty;
  RingBarriers<kForwardStages> k_ring, v_ring;
  int work;  // what q belongs to; kNoWork at the end. Written before q_full, read before q_empty
};
inline constexpr int kNoWork = -1;

struct HopperForwardMaps {
  TensorMap q, k, v;
};

// What a block does from one counter value.
struct ForwardWork {
  int row0, h, b, tiles;
};

struct HopperForwardParameters {
  AttentionForwardKernelArgs<Bf16> args;
  int section = 0;     // (sample, head) pairs
  int work_count = 0;  // row blocks of all pairs
  int* next_work = nullptr;
};

__device__ __forceinline__ ForwardWork FindWork(const HopperForwardParameters& parameters,
                                                int index) {
  const AttentionGeometry& shape = parameters.args.geometry;
  const int row_blocks = (shape.sequence + kHopperRows - 1) / kHopperRows;
  const int pairs = shape.batch * shape.heads;
  const int of_section = parameters.section * row_blocks;
  const int first_pair = index / of_section * parameters.section;
  const int section = min(parameters.section, pairs - first_pair);
  const int in_section = index % of_section;
  const int pair = first_pair + in_section % section;
  const int row_block = row_blocks - 1 - in_section / section;
  return {row_block * kHopperRows, pair % shape.heads, pair / shape.heads, row_block + 1};
}

// Waits for the ring's next stage to be empty and starts a copy into it.
template <typename Tiles>
__device__ __forceinline__ void Refill(Bf16 (&tiles)[kForwardStages][Tiles::kElements],
                                       RingBarriers<kForwardStages>& ring,
                                       RingPlace<kForwardStages>& place, const TensorMap& map,
                                       const TileAt& at) {
  place.WaitUntilEmpty(ring);
  ArriveAndExpect(&ring.full[place.stage], Tiles::kBytes);
  Tiles::CopyAsync(tiles[place.stage], &map, at, &ring.full[place.stage]);
  place.Advance();
}

// The producer: one thread. Copies are started in the order in which they are waited for.
template <int kHeadDim>
__device__ __forceinline__ void ProduceTiles(const HopperForwardParameters& parameters,
                                             const HopperForwardMaps& maps,
                                             HopperForwardShared<kHeadDim>& shared) {
  using Shared = HopperForwardShared<kHeadDim>;
  const AttentionGeometry& shape = parameters.args.geometry;
  RingPlace<kForwardStages> k_place;
  RingPlace<kForwardStages> v_place;
  unsigned q_parity = 0;
  for (;;) {
    const int index = atomicAdd(parameters.next_work, 1);
    Wait(&shared.q_empty, q_parity ^ 1U);
    q_parity ^= 1U;
    if (index >= parameters.work_count) break;
    const ForwardWork work = FindWork(parameters, index);
    shared.work = index;
    ArriveAndExpect(&shared.q_full, Shared::Rows::kBytes);
    Shared::Rows::CopyAsync(shared.q, &maps.q, {0, work.h, work.row0, work.b}, &shared.q_full);
    TileAt at = {0, work.h / (shape.heads / shape.kv_heads), 0, work.b};
    for (int tile = 0; tile < work.tiles; ++tile) {
      at.row = tile * kHopperKeys;
      Refill<typename Shared::Keys>(shared.k, shared.k_ring, k_place, maps.k, at);
      if (tile == 0) continue;
      at.row -= kHopperKeys;
      Refill<typename Shared::Keys>(shared.v, shared.v_ring, v_place, maps.v, at);
    }
    at.row = (work.tiles - 1) * kHopperKeys;
    Refill<typename Shared::Keys>(shared.v, shared.v_ring, v_place, maps.v, at);
  }
  shared.work = kNoWork;
  Arrive(&shared.q_full);
}

// One consumer group's side of the rings, and its products. What is in registers for long is not a
// member: the compiler would keep it in memory.
template <int kHeadDim>
struct ForwardConsumer {
  using Shared = HopperForwardShared<kHeadDim>;
  using Accumulators = float[kHeadDim / 8][4];
  using Logits = float[kHopperKeys / 8][4];
  using Weights = unsigned[kHopperKeys / kProductDepth][4];  // A operands

  Shared& shared;
  const int group;  // 0 or 1
  RingPlace<kForwardStages> k_place;
  RingPlace<kForwardStages> v_place;

  __device__ ForwardConsumer(Shared& block, int warp_group) : shared(block), group(warp_group) {}

  // Named barrier 1 + i is group i's turn at starting products.
  __device__ __forceinline__ void WaitForTurn() const {
    WaitAtNamedBarrier(1 + group, kHopperConsumers * kWarpGroupThreads);
  }
  __device__ __forceinline__ void PassTurn() const {
    ArriveAtNamedBarrier(2 - group, kHopperConsumers * kWarpGroupThreads);
  }

  // Starts s = q k^T of the group's 64 rows.
  __device__ __forceinline__ void StartLogits(Logits& s) const {
    PinRegisters(s);
    FenceProducts();
    StartRowProducts<typename Shared::Rows, typename Shared::Keys>(s, shared.q, group * 64,
                                                                   shared.k[k_place.stage]);
    CommitProducts();
  }
  // Starts acc += p v.
  __device__ __forceinline__ void StartOutput(Accumulators& acc, Weights& p) const {
    PinRegisters(acc);
    PinRegisters(p);
    FenceProducts();
    StartChannelProducts<typename Shared::Keys>(acc, p, shared.v[v_place.stage]);
    CommitProducts();
  }

  // All key tiles of one piece of work; q is there, and is released after its last product.
  __device__ __forceinline__ void Attend(int tiles, SoftmaxTileArgs softmax, ForwardRowState& state,
                                         Accumulators& acc) {
    Logits s;
    Weights p;
    float correction[2];
    k_place.WaitUntilFull(shared.k_ring);
    StartLogits(s);
    WaitProducts<0>();
    PinRegisters(s);
    k_place.Release(shared.k_ring);
    if (tiles == 1) ReleaseByWarp(&shared.q_empty);
    softmax.diagonal = tiles == 1;
    SoftmaxTile(s, softmax, state, correction);
    RoundToOperands(s, p);
    softmax.has_first = false;
    if (tiles > 1) k_place.WaitUntilFull(shared.k_ring);
    for (int tile = 1; tile < tiles; ++tile) {
      WaitForTurn();
      StartLogits(s);
      v_place.WaitUntilFull(shared.v_ring);
      StartOutput(acc, p);
      PassTurn();
      WaitProducts<1>();
      PinRegisters(s);
      k_place.Release(shared.k_ring);
      if (tile == tiles - 1) ReleaseByWarp(&shared.q_empty);
      softmax.key0 = tile * kHopperKeys;
      softmax.diagonal = tile == tiles - 1;
      SoftmaxTile(s, softmax, state, correction);
      // The exponentials belong under the product that is on its way. The assembler would wait for
      // that first, but moves no wait across the loop in which the next keys are waited for.
      PinRegisters(s);
      if (tile + 1 < tiles) k_place.WaitUntilFull(shared.k_ring);
      WaitProducts<0>();
      PinRegisters(acc);
      v_place.Release(shared.v_ring);
      ScaleRow(acc, 0, correction[0]);
      ScaleRow(acc, 1, correction[1]);
      RoundToOperands(s, p);
    }
    v_place.WaitUntilFull(shared.v_ring);
    StartOutput(acc, p);
    WaitProducts<0>();
    PinRegisters(acc);
    v_place.Release(shared.v_ring);
  }
};

// A consumer group.
template <int kHeadDim>
__device__ __forceinline__ void ConsumeTiles(const HopperForwardParameters& parameters,
                                             HopperForwardShared<kHeadDim>& shared, int group) {
  const AttentionForwardKernelArgs<Bf16>& args = parameters.args;
  ForwardConsumer<kHeadDim> consumer(shared, group);
  const int group_warp = static_cast<int>(threadIdx.x) % kWarpGroupThreads / kWarpThreads;
  const int row_in_block = group * 64 + group_warp * kWarpRows;
  if (group == 1) consumer.PassTurn();
  unsigned q_parity = 0;
  for (;;) {
    Wait(&shared.q_full, q_parity);
    q_parity ^= 1U;
    const int index = shared.work;
    if (index == kNoWork) break;
    const ForwardWork work = FindWork(parameters, index);
    ForwardRowState state = StartRows(args, work.h);
    SoftmaxTileArgs softmax;
    softmax.scale_log2 = args.geometry.scale * kLog2E;
    softmax.row0 = work.row0 + row_in_block;
    softmax.has_first = args.config.variant == AttentionVariant::kVanilla;
    float acc[kHeadDim / 8][4] = {};
    consumer.Attend(work.tiles, softmax, state, acc);
    FinishRows<kHeadDim>(args, acc, state, shared.out, row_in_block, work.b, work.h, softmax.row0);
  }
  // The other group has passed the turn once more than it was taken.
  if (group == 0) consumer.WaitForTurn();
}

template <int kHeadDim>
__global__ void __launch_bounds__(kHopperThreads, 1)
    AttentionForwardHopperKernel(const __grid_constant__ HopperForwardParameters parameters,
                                 const __grid_constant__ HopperForwardMaps maps) {
#if SINKFORGE_HOPPER_CODE
  auto& shared = *reinterpret_cast<HopperForwardShared<kHeadDim>*>(SharedMemory());
  // Of a warp, so that the compiler knows it to be one number.
  const int warp_group =
      __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / kWarpGroupThreads, 0);
  if (threadIdx.x == 0) {
    InitBarrier(&shared.q_full, 1);
    InitBarrier(&shared.q_empty, kConsumerWarps);
    shared.k_ring.Init(1);
    shared.v_ring.Init(1);
    FenceBarrierInit();
  }
  __syncthreads();
  if (warp_group == 0) {
    ReleaseRegisters<kProducerRegisters>();
    if (threadIdx.x == 0) ProduceTiles(parameters, maps, shared);
  } else {
    ClaimRegisters<kConsumerRegisters>();
    ConsumeTiles(parameters, shared, warp_group - 1);
  }
#endif
}

template <int kHeadDim>
void LaunchAttentionForwardHopper(const AttentionForwardKernelArgs<Bf16>& args,
                                  const HopperResources& resources, cudaStream_t stream) {
  const AttentionGeometry& shape = args.geometry;
  const int64_t row_blocks = (shape.sequence + kHopperRows - 1) / kHopperRows;
  const int pairs = shape.batch * shape.heads;
  // Heads of a group share their keys and values.
  const int64_t pair_bytes = 2 * int64_t{shape.sequence} * kHeadDim *
                             static_cast<int64_t>(sizeof(Bf16)) * shape.kv_heads / shape.heads;
  // The rest of the cache is for queries and outputs, which pass through it.
  const int64_t section_bytes = int64_t{resources.cache_bytes} * 2 / 3;
  HopperForwardParameters parameters;
  parameters.args = args;
  parameters.section = static_cast<int>(std::clamp<int64_t>(section_bytes / pair_bytes, 1, pairs));
  SINKFORGE_CHECK(row_blocks * pairs <= INT32_MAX / 2);
  parameters.work_count = static_cast<int>(row_blocks * pairs);
  parameters.next_work = resources.next_work;
  CheckCuda(cudaMemsetAsync(resources.next_work, 0, sizeof(int), stream), "counter of a kernel");
  HopperForwardMaps maps;
  maps.q = MakeTensorMap({args.q, shape.batch, shape.sequence, shape.heads, kHeadDim}, kHopperRows);
  const HeadTensor keys = {args.k, shape.batch, shape.sequence, shape.kv_heads, kHeadDim};
  HeadTensor values = keys;
  values.data = args.v;
  maps.k = MakeTensorMap(keys, kHopperKeys);
  maps.v = MakeTensorMap(values, kHopperKeys);
  const LaunchShape launch{
      dim3(static_cast<unsigned>(std::min(resources.multiprocessors, parameters.work_count))),
      kHopperThreads, sizeof(HopperForwardShared<kHeadDim>)};
  Launch(AttentionForwardHopperKernel<kHeadDim>, launch, stream, parameters, maps);
}

}  // namespace sinkforge::kernels::cuda
