// Runs CUDA kernels on the processor, so that their arithmetic, indexing and synchronisation are
// tested where there is no GPU. Every thread of a block is a fiber of one operating-system thread;
// blocks run one after another. Warps run in a chosen order between barriers, so that a missing
// barrier shows as a result that depends on it. Asynchronous copies arrive only when they are
// waited for, and shared memory starts as NaN. Collectives must be called by whole warps. The
// instructions are written here from their description in the PTX ISA, and from nothing else.
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>

#include "tests/cuda_emulation/launch_types.h"

namespace emulation {

struct Shape {
  dim3 grid;
  unsigned threads = 0;
  size_t shared_bytes = 0;
};

enum class WarpOrder { kForward, kReverse };
void SetWarpOrder(WarpOrder order);

// Runs `thread` for every thread of every block. Ends the program with a message where a device
// would refuse the launch, where a block can not go on, or where it wrote past its shared memory.
void Run(const Shape& shape, const std::function<void()>& thread);

[[noreturn]] void Fail(const char* what);

unsigned char* SharedMemory();
size_t SharedBytes();
void SyncThreads();
void SyncWarp();
// Until the condition holds; other threads run meanwhile.
void WaitUntil(const std::function<bool()>& condition);
// Until every other warp had its turn.
void LetOthersRun();
int Lane();
int Thread();  // of the block

// Gives `bytes` (64 at most) of every lane of the warp to every lane: lane i's start at 64 i.
const unsigned char* Exchange(const void* own, size_t bytes);
inline constexpr size_t kSlotBytes = 64;

template <typename T>
T ValueOfLane(const unsigned char* slots, int lane) {
  T value;
  std::memcpy(&value, slots + static_cast<size_t>(lane) * kSlotBytes, sizeof(T));
  return value;
}

void MultiplyAdd(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
enum class Order { kAsStored, kTransposed };
void LoadMatrices(unsigned (&r)[4], const void* row, Order order);
float Exp2(float x);
void CopyAsync(void* to, const void* from, bool valid);
void CommitCopies();
void WaitCopies(int left);

}  // namespace emulation
