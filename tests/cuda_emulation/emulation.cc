// Fibers, barriers and the emulated instructions.
#include "tests/cuda_emulation/emulation.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "tests/cuda_emulation/hopper_emulation.h"
#include "tests/cuda_emulation/include/cuda_bf16.h"
#include "tests/cuda_emulation/include/cuda_runtime.h"

namespace emulation {
namespace {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 192U << 10;
constexpr size_t kGuardBytes = 256;
constexpr unsigned char kGuard = 0xA5;
constexpr unsigned char kNaNByte = 0xFF;  // four of them are a NaN, and so are two

// Counts who has come; the last one starts the next generation.
struct Gate {
  int arrived = 0;
  uint64_t generation = 0;
};

struct Copy {
  void* to;
  const void* from;
  bool valid;
};

struct Fiber {
  std::unique_ptr<char[]> stack;
  ucontext_t start;
  jmp_buf jump;
  bool started = false;
  bool done = false;
  std::function<bool()> waits_until;      // empty: can go on
  std::vector<std::vector<Copy>> groups;  // the last one is not committed yet
};

struct Warp {
  Gate gate;
  unsigned char slots[2][kWarp * kSlotBytes];
};

WarpOrder warp_order = WarpOrder::kForward;

class Block;
Block& Instance();

// One block at a time; the memory of the fibers is kept for the next.
class Block {
 public:
  void Run(const Shape& shape, const std::function<void()>& thread) {
    thread_ = &thread;
    threads_ = static_cast<int>(shape.threads);
    if (threads_ % kWarp != 0) Fail("a block must have whole warps");
    if (fibers_.size() < static_cast<size_t>(threads_)) {
      fibers_.resize(static_cast<size_t>(threads_));
    }
    warps_.assign(static_cast<size_t>(threads_ / kWarp), Warp());
    barrier_ = Gate();
    alive_ = threads_;
    shared_bytes_ = shape.shared_bytes;
    Poison(shape.shared_bytes);
    BeginHopperBlock(threads_);
    for (int i = 0; i < threads_; ++i) Prepare(i);
    int idle_rounds = 0;
    while (alive_ > 0) {
      bool progress = false;
      ++round_;
      for (int w = 0; w < threads_ / kWarp; ++w) {
        const bool forward = warp_order == WarpOrder::kForward;
        progress |= RunWarp(forward ? w : threads_ / kWarp - 1 - w);
      }
      idle_rounds = progress ? 0 : idle_rounds + 1;
      // One such round may be a wait for the next.
      if (idle_rounds > 1) Fail("no thread can go on: a barrier or collective that not all reach");
    }
    EndHopperBlock();
    for (size_t i = 0; i < kGuardBytes; ++i) {
      if (shared_[shape.shared_bytes + i] != kGuard) Fail("shared memory written past its end");
    }
  }

  unsigned char* shared() { return shared_.get(); }
  size_t shared_bytes() const { return shared_bytes_; }
  uint64_t round() const { return round_; }
  int current() const { return current_; }
  Fiber& fiber() { return fibers_[static_cast<size_t>(current_)]; }
  Warp& warp() { return warps_[static_cast<size_t>(current_ / kWarp)]; }

  void Barrier() { Arrive(&barrier_, alive_); }
  void WarpBarrier() { Arrive(&warp().gate, kWarp); }
  void WaitUntil(const std::function<bool()>& condition) {
    Fiber& own = fiber();
    own.waits_until = condition;
    if (_setjmp(own.jump) == 0) _longjmp(main_, 1);
    fiber().waits_until = nullptr;
  }

 private:
  struct Free {
    void operator()(unsigned char* memory) const { std::free(memory); }
  };

  static void Enter() {
    Block& block = Instance();
    (*block.thread_)();
    block.fiber().done = true;
    --block.alive_;
    // Those who wait at the barrier wait for the living alone.
    if (block.alive_ > 0 && block.barrier_.arrived == block.alive_) Open(&block.barrier_);
    _longjmp(block.main_, 1);
  }

  void Poison(size_t bytes) {
    const size_t size = (bytes + kGuardBytes + 1023) / 1024 * 1024;
    shared_.reset(static_cast<unsigned char*>(std::aligned_alloc(1024, size)));
    std::memset(shared_.get(), kNaNByte, bytes);
    std::memset(shared_.get() + bytes, kGuard, size - bytes);
  }

  void Prepare(int i) {
    Fiber& fiber = fibers_[static_cast<size_t>(i)];
    if (fiber.stack == nullptr) fiber.stack.reset(new char[kStackBytes]);
    fiber.started = fiber.done = false;
    fiber.waits_until = nullptr;
    fiber.groups.assign(1, {});
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = kStackBytes;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, &Block::Enter, 0);
  }

  bool RunWarp(int warp) {
    bool progress = false;
    for (bool again = true; again;) {
      again = false;
      for (int lane = 0; lane < kWarp; ++lane) {
        const int i = warp * kWarp + lane;
        const Fiber& fiber = fibers_[static_cast<size_t>(i)];
        if (fiber.done) continue;
        if (fiber.waits_until && !fiber.waits_until()) continue;
        Resume(i);
        progress = again = true;
      }
    }
    return progress;
  }

  void Resume(int i) {
    current_ = i;
    threadIdx = {static_cast<unsigned>(i), 0, 0};
    if (_setjmp(main_) != 0) return;
    Fiber& next = fiber();
    if (next.started) _longjmp(next.jump, 1);
    next.started = true;
    setcontext(&next.start);
  }

  static void Open(Gate* gate) {
    gate->arrived = 0;
    ++gate->generation;
  }

  void Arrive(Gate* gate, int expected) {
    const uint64_t generation = gate->generation;
    if (++gate->arrived == expected) {
      Open(gate);
      return;
    }
    WaitUntil([gate, generation] { return gate->generation != generation; });
  }

  const std::function<void()>* thread_ = nullptr;
  int threads_ = 0;
  int alive_ = 0;
  int current_ = 0;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  Gate barrier_;
  std::unique_ptr<unsigned char[], Free> shared_;
  size_t shared_bytes_ = 0;
  uint64_t round_ = 0;  // of the scheduler
  jmp_buf main_;
};

Block& Instance() {
  static Block block;
  return block;
}

// Of two bfloat16 in a register, the lower half first.
float Element(unsigned pair, int i) {
  return __bfloat162float({static_cast<uint16_t>(i == 0 ? pair : pair >> 16)});
}

struct Operands {
  unsigned a[4];
  unsigned b[2];
};

// What a launch on a device of compute capability 9.0 is refused for.
void CheckLaunch(const Shape& shape) {
  constexpr size_t kSharedBytesMax = 227U << 10;
  constexpr unsigned kThreadsMax = 1024;
  constexpr unsigned kGridMax = 65535;  // of y and z; x has 31 bits
  const dim3& grid = shape.grid;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) Fail("a launch of no blocks");
  if (grid.x >> 31 != 0 || grid.y > kGridMax || grid.z > kGridMax) Fail("a grid too large");
  if (shape.threads == 0 || shape.threads > kThreadsMax) Fail("a block of 1 to 1,024 threads");
  if (shape.shared_bytes > kSharedBytesMax) Fail("more shared memory than a block can have");
}

}  // namespace

void SetWarpOrder(WarpOrder order) { warp_order = order; }

void Fail(const char* what) {
  std::fprintf(stderr, "emulated block (%u, %u, %u), thread %u: %s\n", blockIdx.x, blockIdx.y,
               blockIdx.z, threadIdx.x, what);
  std::abort();
}

void Run(const Shape& shape, const std::function<void()>& thread) {
  CheckLaunch(shape);
  blockDim = dim3(shape.threads);
  gridDim = shape.grid;
  for (unsigned z = 0; z < shape.grid.z; ++z) {
    for (unsigned y = 0; y < shape.grid.y; ++y) {
      for (unsigned x = 0; x < shape.grid.x; ++x) {
        blockIdx = {x, y, z};
        Instance().Run(shape, thread);
      }
    }
  }
}

unsigned char* SharedMemory() { return Instance().shared(); }
size_t SharedBytes() { return Instance().shared_bytes(); }
void WaitUntil(const std::function<bool()>& condition) { Instance().WaitUntil(condition); }
void LetOthersRun() {
  const uint64_t round = Instance().round();
  WaitUntil([round] { return Instance().round() > round; });
}
int Thread() { return Instance().current(); }
void SyncThreads() { Instance().Barrier(); }
void SyncWarp() { Instance().WarpBarrier(); }
int Lane() { return Instance().current() % kWarp; }

const unsigned char* Exchange(const void* own, size_t bytes) {
  if (bytes > kSlotBytes) Fail("too much for one exchange");
  Warp& warp = Instance().warp();
  unsigned char* slots = warp.slots[warp.gate.generation % 2];
  std::memcpy(slots + static_cast<size_t>(Lane()) * kSlotBytes, own, bytes);
  SyncWarp();
  // Nobody writes these again before every lane has come to the next exchange.
  return slots;
}

void MultiplyAdd(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  const Operands own = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const unsigned char* slots = Exchange(&own, sizeof(own));
  const int lane = Lane();
  // This lane's two rows of A and two columns of B. A[row][k] is in register (row / 8) + 2 (k / 8)
  // of lane 4 (row % 8) + (k % 8) / 2, B[k][column] in register k / 8 of lane 4 column + (k % 8)
  // / 2.
  float rows[2][16];
  float columns[2][16];
  for (int k = 0; k < 16; k += 2) {
    const auto from_a = ValueOfLane<Operands>(slots, lane / 4 * 4 + k % 8 / 2);
    for (int half = 0; half < 2; ++half) {
      const int column = lane % 4 * 2 + half;
      const auto from_b = ValueOfLane<Operands>(slots, column * 4 + k % 8 / 2);
      for (int i = 0; i < 2; ++i) {
        rows[half][k + i] = Element(from_a.a[half + k / 8 * 2], i);
        columns[half][k + i] = Element(from_b.b[k / 8], i);
      }
    }
  }
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 16; ++k) d[i] += rows[i / 2][k] * columns[i % 2][k];
  }
}

float Exp2(float x) {
  const float power = std::exp2(x);
  return power < 0x1p-126F ? 0.0F : power;
}

void LoadMatrices(unsigned (&r)[4], const void* row, Order order) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) Fail("a row of ldmatrix must be aligned to 16");
  const unsigned char* slots = Exchange(&row, sizeof(row));
  const int lane = Lane();
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t pair[2];
    for (int i = 0; i < 2; ++i) {
      const int at_row = order == Order::kAsStored ? lane / 4 : lane % 4 * 2 + i;
      const int at_column = order == Order::kAsStored ? lane % 4 * 2 + i : lane / 4;
      const auto* from = ValueOfLane<const unsigned char*>(slots, matrix * 8 + at_row);
      std::memcpy(&pair[i], from + at_column * 2, sizeof(uint16_t));
    }
    r[matrix] = static_cast<unsigned>(pair[0]) | static_cast<unsigned>(pair[1]) << 16;
  }
}

void CopyAsync(void* to, const void* from, bool valid) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    Fail("an asynchronous copy of 16 bytes must be aligned to 16");
  }
  Instance().fiber().groups.back().push_back({to, from, valid});
}

void CommitCopies() { Instance().fiber().groups.emplace_back(); }

void WaitCopies(int left) {
  std::vector<std::vector<Copy>>& groups = Instance().fiber().groups;
  while (static_cast<int>(groups.size()) - 1 > left) {
    for (const Copy& copy : groups.front()) {
      if (copy.valid) {
        std::memcpy(copy.to, copy.from, 16);
      } else {
        std::memset(copy.to, 0, 16);
      }
    }
    groups.erase(groups.begin());
  }
}

}  // namespace emulation
