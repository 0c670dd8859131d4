// The instructions of compute capability 9.0 for the emulated device (kernels/cuda/hopper_ptx.h
// names them), written from their description in the PTX ISA. What hardware leaves open is decided
// by Arrival: bulk copies and products take effect at the last moment at which a program may rely
// on them, or at the first at which they may happen. A program that is right gives the same bits
// both ways. Misuse that hardware would answer with garbage, or with waiting for ever, ends the
// program with a message; hopper_rules_test.cc has one for each:
//
//   memory barriers   not initialised, or twice, or not fenced before a copy; more arrivals or
//                     bytes than a phase counts
//   bulk copies       misaligned tiles and tensor maps, outside shared memory, nobody waits
//   products          no fence before a group, threads of a warp group that do not do the same,
//                     descriptors of another swizzle, nobody waits
//   proxies           products of, and copies over, what threads stored without a fence
//   named barriers    numbers that there are not, lanes of a warp apart, not all of them come
#pragma once

#include <cstdint>

namespace emulation {

enum class Arrival { kLast, kFirst };
void SetArrival(Arrival arrival);

// Memory barriers; `state` is the barrier's word in shared memory.
void InitBarrier(uint64_t* state, int arrivals);
void FenceBarrierInit();
void Arrive(uint64_t* state, int bytes);
void WaitBarrier(uint64_t* state, unsigned parity);

// `map` is what EmulatedTileMap describes, `at` its coordinates, innermost first.
struct TileCoordinates {
  int at[4];
};
void CopyTileAsync(void* to, const void* map, const TileCoordinates& from, uint64_t* barrier);

void WaitAtNamedBarrier(int id, int threads);
void ArriveAtNamedBarrier(int id, int threads);

// One wgmma of 64 x columns x 16: d[columns / 8][4] is this thread's part.
struct Product {
  float* d;
  int columns;
  bool sum;           // adds to what d holds
  const unsigned* a;  // four registers, or null: the descriptor
  uint64_t a_descriptor;
  uint64_t b_descriptor;  // its rows are columns of the product, or with `a` its columns are
};
void FenceProducts();
void StartProduct(const Product& product);
void CommitProducts();
void WaitProducts(int left);

// What a tensor map of the emulated device holds, innermost dimension first; bfloat16.
struct EmulatedTileMap {
  const unsigned char* data;
  uint64_t dims[4];
  uint64_t stride_bytes[3];
  uint32_t box[4];
};

// Around each block, by emulation.cc.
void BeginHopperBlock(int threads);
void EndHopperBlock();

}  // namespace emulation
