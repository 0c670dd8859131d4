// A bulk copy and a product of one warp group on the emulated device: right as it stands, and ended
// with a message for every rule of the instructions that it can break.
#include <gmock/gmock.h>

#include <array>
#include <functional>
#include <ostream>

#include "kernels/cuda/tile_ring.h"

namespace sinkforge::kernels::cuda {
namespace {

constexpr int kSide = 64;  // rows and channels of the tensor, and columns of the product
using Tile64 = SwizzledTile<kSide, kSide>;

enum class Mistake {
  kNone,
  kBarrierTwice,
  kBarrierNotFenced,
  kBarrierMisaligned,
  kArrivalTooMany,
  kBytesTooMany,
  kTileMisaligned,
  kMapMisaligned,
  kStoreBeforeCopy,
  kStoreBeforeProduct,
  kNoProductFence,
  kNoSecondFence,
  kOtherDescriptors,
  kWarpLeftOut,
  kNotWaitedFor,
  kNamedBarrierOfLanes,
  kNamedBarriersApart,
  kNamedBarrierLeft,
};

struct Case {
  Mistake mistake;
  const char* message;
};
void PrintTo(const Case& broken, std::ostream* out) { *out << broken.message; }

struct Memory {
  Bf16 tile[2 * Tile64::kElements];
  MemoryBarrier barrier;
  MemoryBarrier next;
};

// Where the kernel reads and writes on the host.
struct Tensors {
  alignas(16) std::array<Bf16, kSide * kSide> x;
  alignas(64) unsigned char map[2 * sizeof(TensorMap)];
  std::array<float, kSide * kSide> product;

  explicit Tensors(Mistake mistake) : map_at(mistake == Mistake::kMapMisaligned ? 16 : 0) {
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = __float2bfloat16(static_cast<float>(static_cast<int>(i * i % 13) - 6));
    }
    const TensorMap made = MakeTensorMap({x.data(), 1, kSide, 1, kSide}, kSide);
    memcpy(map + map_at, &made, sizeof(made));
  }
  const TensorMap* Map() const { return reinterpret_cast<const TensorMap*>(map + map_at); }

  size_t map_at;
};

// By thread 0: the barrier, and the copy of x into the tile.
void StartCopy(Mistake mistake, const Tensors& tensors, Memory* memory) {
  auto* barrier = &memory->barrier;
  if (mistake == Mistake::kBarrierMisaligned) {
    barrier = reinterpret_cast<MemoryBarrier*>(reinterpret_cast<unsigned char*>(barrier) + 4);
  }
  InitBarrier(barrier, 1);
  if (mistake == Mistake::kBarrierTwice) InitBarrier(barrier, 1);
  if (mistake != Mistake::kBarrierNotFenced) FenceBarrierInit();
  if (mistake == Mistake::kStoreBeforeCopy) memory->tile[0] = __float2bfloat16(1.0F);
  ArriveAndExpect(barrier, mistake == Mistake::kBytesTooMany ? 1 << 20 : Tile64::kBytes);
  if (mistake == Mistake::kArrivalTooMany) Arrive(barrier);
  const int shift = mistake == Mistake::kTileMisaligned ? 64 : 0;
  Tile64::CopyAsync(memory->tile + shift, tensors.Map(), {}, barrier);
}

// By the warp group: d = x x^T.
void Multiply(Mistake mistake, const Memory& memory, float (&d)[kSide / 8][4]) {
  if (mistake != Mistake::kNoProductFence) FenceProducts();
  const bool other = mistake == Mistake::kOtherDescriptors && threadIdx.x >= 64;
  StartRowProducts<Tile64, Tile64>(d, memory.tile, 0,
                                   memory.tile + (other ? Tile64::kElements : 0));
  CommitProducts();
  if (mistake == Mistake::kNoSecondFence) {
    StartRowProducts<Tile64, Tile64>(d, memory.tile, 0, memory.tile);
    CommitProducts();
  }
  if (mistake != Mistake::kNotWaitedFor) WaitProducts<0>();
}

void MeetAtNamedBarrier(Mistake mistake) {
  const bool is_odd = threadIdx.x % 2 == 1;
  if (mistake == Mistake::kNamedBarrierOfLanes && is_odd) return;
  const int id = mistake == Mistake::kNamedBarriersApart && is_odd ? 2 : 1;
  ArriveAtNamedBarrier(id, kWarpGroupThreads);
  if (mistake == Mistake::kNamedBarrierLeft && threadIdx.x < kWarpThreads) {
    ArriveAtNamedBarrier(id, kWarpGroupThreads);
  }
}

void Kernel(Mistake mistake, Tensors* tensors) {
  auto& memory = *reinterpret_cast<Memory*>(SharedMemory());
  if (threadIdx.x == 0) StartCopy(mistake, *tensors, &memory);
  __syncthreads();
  Wait(&memory.barrier, 0);
  if (mistake == Mistake::kStoreBeforeProduct && threadIdx.x == 0) memory.tile[5] = memory.tile[6];
  __syncthreads();
  float d[kSide / 8][4] = {};
  const bool left_out = mistake == Mistake::kWarpLeftOut && threadIdx.x < kWarpThreads;
  if (!left_out) Multiply(mistake, memory, d);
  MeetAtNamedBarrier(mistake);
  const auto thread = static_cast<int>(threadIdx.x);
  for (int n = 0; n < kSide / 8; ++n) {
    for (int i = 0; i < 4; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + i / 2 * 8;
      const int column = 8 * n + thread % 4 * 2 + i % 2;
      tensors->product[static_cast<size_t>(row * kSide + column)] = d[n][i];
    }
  }
}

void RunKernel(Mistake mistake, Tensors* tensors) {
  emulation::Run({dim3(1), kWarpGroupThreads, sizeof(Memory)}, [&] { Kernel(mistake, tensors); });
}

TEST(HopperRulesTest, AProgramThatKeepsThemMultiplies) {
  Tensors tensors(Mistake::kNone);
  RunKernel(Mistake::kNone, &tensors);
  for (size_t row = 0; row < kSide; ++row) {
    for (size_t column = 0; column < kSide; ++column) {
      float expected = 0;
      for (size_t k = 0; k < kSide; ++k) {
        expected += __bfloat162float(tensors.x[row * kSide + k]) *
                    __bfloat162float(tensors.x[column * kSide + k]);
      }
      // Whole numbers, so that no order of the sum rounds.
      ASSERT_EQ(tensors.product[row * kSide + column], expected) << row << ", " << column;
    }
  }
}

class BrokenRuleTest : public testing::TestWithParam<Case> {};

TEST_P(BrokenRuleTest, EndsTheProgram) {
  Tensors tensors(GetParam().mistake);
  EXPECT_DEATH(RunKernel(GetParam().mistake, &tensors), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Hopper, BrokenRuleTest,
    testing::Values(
        Case{Mistake::kBarrierTwice, "a memory barrier is initialised twice"},
        Case{Mistake::kBarrierNotFenced, "initialisation was not fenced"},
        Case{Mistake::kBarrierMisaligned, "a misaligned memory barrier"},
        Case{Mistake::kArrivalTooMany, "more arrivals at a memory barrier"},
        Case{Mistake::kBytesTooMany, "more bytes than a memory barrier counts"},
        Case{Mistake::kTileMisaligned, "a tile must be aligned"},
        Case{Mistake::kMapMisaligned, "a misaligned tensor map"},
        Case{Mistake::kStoreBeforeCopy, "a bulk copy over what threads stored"},
        Case{Mistake::kStoreBeforeProduct, "a product of what threads stored"},
        Case{Mistake::kNoProductFence, "a group of products was started without a fence"},
        Case{Mistake::kNoSecondFence, "a group of products was started without a fence"},
        Case{Mistake::kOtherDescriptors, "threads of a warp group that do not do the same"},
        Case{Mistake::kWarpLeftOut, "not all threads of a warp group have started"},
        Case{Mistake::kNotWaitedFor, "a product that was not waited for"},
        Case{Mistake::kNamedBarrierOfLanes, "not all reach"},
        Case{Mistake::kNamedBarriersApart, "lanes of a warp at different named barriers"},
        Case{Mistake::kNamedBarrierLeft, "a named barrier that not all have reached"}));

TEST(LaunchLimitsTest, EndTheProgram) {
  const auto launch = [](dim3 grid, unsigned threads, size_t shared_bytes) {
    emulation::Run({grid, threads, shared_bytes}, [] {});
  };
  launch(dim3(1), 1024, 227U << 10);
  EXPECT_DEATH(launch(dim3(0), 32, 0), "a launch of no blocks");
  EXPECT_DEATH(launch(dim3(1, 65536), 32, 0), "a grid too large");
  EXPECT_DEATH(launch(dim3(1), 1056, 0), "a block of 1 to 1,024 threads");
  EXPECT_DEATH(launch(dim3(1), 32, (227U << 10) + 1), "more shared memory");
}

}  // namespace
}  // namespace sinkforge::kernels::cuda
