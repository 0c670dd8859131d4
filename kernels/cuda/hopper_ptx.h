// The instructions of compute capability 9.0 alone, each wrapped once: memory barriers of a block's
// shared memory, bulk copies of tensor tiles, matrix products of a warp group (four warps, 128
// threads), named barriers, registers of a warp group. PTX ISA, sections mbarrier,
// cp.async.bulk.tensor, wgmma, bar and setmaxnreg.
//
// Fragments of wgmma.m64nNk16 in warp w of its group are those of mma.m16n8k16 (ptx.h) on the rows
// from 16 w: d[n] is D of the columns from 8 n, and an A operand in registers is that warp's A.
#pragma once

#include "kernels/cuda/ptx.h"
#include "kernels/cuda/tensor_map.h"

// Code for other capabilities has these kernels with empty bodies: they are never launched there.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SINKFORGE_HOPPER_CODE 1
#else
#define SINKFORGE_HOPPER_CODE 0
#endif

namespace sinkforge::kernels::cuda {

inline constexpr int kWarpGroupThreads = 128;

// In shared memory. A phase ends when every expected arrival came and every expected byte of its
// copies is there; phases are numbered from 0.
struct alignas(8) MemoryBarrier {
  uint64_t state;
};

// What a product's accumulator holds before.
enum class Accumulator { kZero, kSum };

// What setmaxnreg takes.
template <int kRegisters>
inline constexpr bool kIsRegisterCount =
    kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256;

#if defined(__CUDACC__)

// By one thread, before FenceBarrierInit and a barrier of the block.
__device__ __forceinline__ void InitBarrier(MemoryBarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(SharedAddress(barrier)),
               "r"(arrivals)
               : "memory");
}
// Shows initialised barriers to the copy engine.
__device__ __forceinline__ void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}
__device__ __forceinline__ void Arrive(MemoryBarrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(SharedAddress(barrier))
               : "memory");
}
// Arrives, and the phase waits for that many bytes more.
__device__ __forceinline__ void ArriveAndExpect(MemoryBarrier* barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(SharedAddress(barrier)),
      "r"(bytes)
      : "memory");
}
// Until the phase of this parity is over. The phase before the first has parity 1, and is over.
__device__ __forceinline__ void Wait(MemoryBarrier* barrier, unsigned parity) {
  unsigned over = 0;
  do {
    asm volatile(
        "{\n.reg .pred over;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
        "selp.u32 %0, 1, 0, over;\n}\n"
        : "=r"(over)
        : "r"(SharedAddress(barrier)), "r"(parity)
        : "memory");
  } while (over == 0);
}

// Starts the copy of the map's box at `at` to shared memory aligned to 1,024 bytes, with the
// 128-byte swizzle; elements outside the tensor become zeros. All bytes of the box count at the
// barrier.
__device__ __forceinline__ void CopyTileAsync(void* to, const TensorMap* map, const TileAt& at,
                                              MemoryBarrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3, %4, %5}], [%6];\n" ::"r"(SharedAddress(to)),
      "l"(map), "r"(at.channel), "r"(at.head), "r"(at.row), "r"(at.sample),
      "r"(SharedAddress(barrier))
      : "memory");
}

// Barriers 1 to 15 of the block, for `threads` threads in all: those that wait and those that only
// come.
__device__ __forceinline__ void WaitAtNamedBarrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void ArriveAtNamedBarrier(int id, int threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

// By every warp of the group: how many registers a thread has from here on.
template <int kRegisters>
__device__ __forceinline__ void ReleaseRegisters() {
  static_assert(kIsRegisterCount<kRegisters>);
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void ClaimRegisters() {
  static_assert(kIsRegisterCount<kRegisters>);
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}

// Keeps the compiler from moving what reads or writes these registers past this place: it does not
// know that products are still under way.
template <int kN>
__device__ __forceinline__ void PinRegisters(float (&registers)[kN][4]) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    asm volatile(""
                 : "+f"(registers[n][0]), "+f"(registers[n][1]), "+f"(registers[n][2]),
                   "+f"(registers[n][3])::"memory");
  }
}
template <int kN>
__device__ __forceinline__ void PinRegisters(unsigned (&registers)[kN][4]) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    asm volatile(""
                 : "+r"(registers[n][0]), "+r"(registers[n][1]), "+r"(registers[n][2]),
                   "+r"(registers[n][3])::"memory");
  }
}

// Orders what was done to the registers of the products that follow.
__device__ __forceinline__ void FenceProducts() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
// Ends a group of products.
__device__ __forceinline__ void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
// Until all but the newest kLeft groups are done.
template <int kLeft>
__device__ __forceinline__ void WaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kLeft) : "memory");
}

// The registers of `d` as operands and as PTX text: %0 to %63, or to %31.
#define SINKFORGE_D4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define SINKFORGE_D16(i) \
  SINKFORGE_D4(i), SINKFORGE_D4(i + 1), SINKFORGE_D4(i + 2), SINKFORGE_D4(i + 3)
#define SINKFORGE_D32 SINKFORGE_D16(0), SINKFORGE_D16(4)
#define SINKFORGE_D64 SINKFORGE_D32, SINKFORGE_D16(8), SINKFORGE_D16(12)
#define SINKFORGE_LIST32                                                   \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19," \
  "%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define SINKFORGE_LIST64                                                          \
  SINKFORGE_LIST32                                                                \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50," \
  "%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

// Starts d (+)= a b^T, by the whole group: a has 64 rows and b 8 kN rows of 16 channels, both in
// shared memory with the channels adjacent.
template <int kN>
__device__ __forceinline__ void MultiplyRowsAsync(float (&d)[kN][4], uint64_t a, uint64_t b,
                                                  Accumulator before) {
  const int sum = before == Accumulator::kSum ? 1 : 0;
  if constexpr (kN == 16) {
    asm volatile(
        "{\n.reg .pred sum;\nsetp.ne.b32 sum, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" SINKFORGE_LIST64
        "}, %64, %65, sum, 1, 1, 0, 0;\n}\n"
        : SINKFORGE_D64
        : "l"(a), "l"(b), "r"(sum));
  } else {
    static_assert(kN == 8);
    asm volatile(
        "{\n.reg .pred sum;\nsetp.ne.b32 sum, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" SINKFORGE_LIST32
        "}, %32, %33, sum, 1, 1, 0, 0;\n}\n"
        : SINKFORGE_D32
        : "l"(a), "l"(b), "r"(sum));
  }
}

// Starts d += a b, by the whole group: a has 64 rows and 16 columns in registers, b 16 rows and
// 8 kN columns in shared memory with the columns adjacent.
template <int kN>
__device__ __forceinline__ void MultiplyChannelsAsync(float (&d)[kN][4], const unsigned (&a)[4],
                                                      uint64_t b) {
  if constexpr (kN == 16) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" SINKFORGE_LIST64
                 "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 1;\n"
                 : SINKFORGE_D64
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  } else {
    static_assert(kN == 8);
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" SINKFORGE_LIST32
                 "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 1;\n"
                 : SINKFORGE_D32
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
}

#undef SINKFORGE_D4
#undef SINKFORGE_D16
#undef SINKFORGE_D32
#undef SINKFORGE_D64
#undef SINKFORGE_LIST32
#undef SINKFORGE_LIST64

#else

__device__ inline void InitBarrier(MemoryBarrier* barrier, int arrivals) {
  emulation::InitBarrier(&barrier->state, arrivals);
}
__device__ inline void FenceBarrierInit() { emulation::FenceBarrierInit(); }
__device__ inline void Arrive(MemoryBarrier* barrier) { emulation::Arrive(&barrier->state, 0); }
__device__ inline void ArriveAndExpect(MemoryBarrier* barrier, int bytes) {
  emulation::Arrive(&barrier->state, bytes);
}
__device__ inline void Wait(MemoryBarrier* barrier, unsigned parity) {
  emulation::WaitBarrier(&barrier->state, parity);
}
__device__ inline void CopyTileAsync(void* to, const TensorMap* map, const TileAt& at,
                                     MemoryBarrier* barrier) {
  emulation::CopyTileAsync(to, map, {at.channel, at.head, at.row, at.sample}, &barrier->state);
}
__device__ inline void WaitAtNamedBarrier(int id, int threads) {
  emulation::WaitAtNamedBarrier(id, threads);
}
__device__ inline void ArriveAtNamedBarrier(int id, int threads) {
  emulation::ArriveAtNamedBarrier(id, threads);
}
template <int kRegisters>
__device__ inline void ReleaseRegisters() {}
template <int kRegisters>
__device__ inline void ClaimRegisters() {}
template <typename T, int kN>
__device__ inline void PinRegisters(T (&)[kN][4]) {}
__device__ inline void FenceProducts() { emulation::FenceProducts(); }
__device__ inline void CommitProducts() { emulation::CommitProducts(); }
template <int kLeft>
__device__ inline void WaitProducts() {
  emulation::WaitProducts(kLeft);
}
template <int kN>
__device__ inline void MultiplyRowsAsync(float (&d)[kN][4], uint64_t a, uint64_t b,
                                         Accumulator before) {
  emulation::StartProduct({&d[0][0], 8 * kN, before == Accumulator::kSum, nullptr, a, b});
}
template <int kN>
__device__ inline void MultiplyChannelsAsync(float (&d)[kN][4], const unsigned (&a)[4],
                                             uint64_t b) {
  emulation::StartProduct({&d[0][0], 8 * kN, true, a, 0, b});
}

#endif

}  // namespace sinkforge::kernels::cuda
