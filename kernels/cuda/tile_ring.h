// Rings of tiles in shared memory between one producer, which starts bulk copies, and the warps of
// the consumer groups, which multiply: for the attention kernels of compute capability 9.0.
#pragma once

#include "kernels/cuda/swizzled_tile.h"

namespace sinkforge::kernels::cuda {

inline constexpr int kHopperConsumers = 2;  // warp groups; three have 160 registers a thread each
inline constexpr int kHopperRows = 64 * kHopperConsumers;  // of a block
inline constexpr int kHopperThreads = (1 + kHopperConsumers) * kWarpGroupThreads;
inline constexpr int kConsumerWarps = kHopperConsumers * kWarpGroupThreads / kWarpThreads;

// Registers of a multiprocessor, and what one block's threads have of them at the start: what
// __launch_bounds__ leaves, in eights.
inline constexpr int kDeviceRegisters = 64 << 10;
inline constexpr int kStartRegisters = kDeviceRegisters / kHopperThreads / 8 * 8;
// Whether the consumers can claim what the producers release: else they would wait for ever.
constexpr bool RegistersSuffice(int producer, int consumer) {
  return producer <= kStartRegisters && consumer >= kStartRegisters &&
         producer + kHopperConsumers * consumer <= (1 + kHopperConsumers) * kStartRegisters;
}

// Every stage's barriers go through one phase a turn around the ring.
template <int kStages>
struct RingBarriers {
  MemoryBarrier full[kStages];   // `producers` arrivals, and the bytes of the tiles
  MemoryBarrier empty[kStages];  // one arrival a consumer warp

  // By one thread, before FenceBarrierInit.
  __device__ __forceinline__ void Init(int producers) {
    for (int stage = 0; stage < kStages; ++stage) {
      InitBarrier(&full[stage], producers);
      InitBarrier(&empty[stage], kConsumerWarps);
    }
  }
};

// By each consumer warp, after its reads and products of what the barrier guards: one arrival.
__device__ __forceinline__ void ReleaseByWarp(MemoryBarrier* barrier) {
  __syncwarp();  // Lane 0 releases what the other lanes have read too: a row's numbers, the work.
  if (threadIdx.x % kWarpThreads == 0) Arrive(barrier);
}

// The stage that comes next in a ring, and the parity of its phase; one for each side of the ring.
template <int kStages>
struct RingPlace {
  int stage = 0;
  unsigned parity = 0;

  __device__ __forceinline__ void WaitUntilEmpty(RingBarriers<kStages>& barriers) const {
    Wait(&barriers.empty[stage], parity ^ 1U);
  }
  __device__ __forceinline__ void WaitUntilFull(RingBarriers<kStages>& barriers) const {
    Wait(&barriers.full[stage], parity);
  }
  // The consumer's end of its turn.
  __device__ __forceinline__ void Release(RingBarriers<kStages>& barriers) {
    ReleaseByWarp(&barriers.empty[stage]);
    Advance();
  }
  __device__ __forceinline__ void Advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1U;
    }
  }
};

// a[step] = the columns from 16 step of x, rounded: D fragments as A operands.
template <int kN>
__device__ __forceinline__ void RoundToOperands(const float (&x)[kN][4], unsigned (&a)[kN / 2][4]) {
#pragma unroll
  for (int step = 0; step < kN / 2; ++step) {
    a[step][0] = PackBf16(x[2 * step][0], x[2 * step][1]);
    a[step][1] = PackBf16(x[2 * step][2], x[2 * step][3]);
    a[step][2] = PackBf16(x[2 * step + 1][0], x[2 * step + 1][1]);
    a[step][3] = PackBf16(x[2 * step + 1][2], x[2 * step + 1][3]);
  }
}

// Starts d = a x^T, without a commit: the group's 64 rows of tile `a` from `row` against all rows
// of tile `x`.
template <typename TileA, typename TileX, int kN>
__device__ __forceinline__ void StartRowProducts(float (&d)[kN][4], const Bf16* a, int row,
                                                 const Bf16* x) {
  static_assert(TileX::kRowsOfTile == 8 * kN && TileA::kPanels == TileX::kPanels);
  const uint64_t a_operand = TileA::RowsOperand(a, row);
  const uint64_t x_operand = TileX::RowsOperand(x, 0);
#pragma unroll
  for (int step = 0; step < TileX::kPanels * kPanelChannels / kProductDepth; ++step) {
    MultiplyRowsAsync(d, a_operand + TileA::RowsStep(step), x_operand + TileX::RowsStep(step),
                      step == 0 ? Accumulator::kZero : Accumulator::kSum);
  }
}

// Starts acc += a x, without a commit: a has the group's 64 rows and the rows of tile `x` as
// columns.
template <typename TileX, int kN, int kSteps>
__device__ __forceinline__ void StartChannelProducts(float (&acc)[kN][4],
                                                     const unsigned (&a)[kSteps][4],
                                                     const Bf16* x) {
  static_assert(TileX::kRowsOfTile == kSteps * kProductDepth);
  const uint64_t x_operand = TileX::ChannelsOperand(x);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    MultiplyChannelsAsync(acc, a[step], x_operand + TileX::ChannelsStep(step));
  }
}

}  // namespace sinkforge::kernels::cuda
