// Memory barriers, bulk copies, warp-group products and named barriers.
#include "tests/cuda_emulation/hopper_emulation.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "kernels/bfloat16.h"
#include "tests/cuda_emulation/emulation.h"

namespace emulation {
namespace {

constexpr uint64_t kBarrierWord = 0x5347424152524945;  // what an initialised barrier's word holds
constexpr int kElementBytes = 2;
constexpr int kSwizzledRowBytes = 128;
constexpr int kTileAlignment = 1024;
constexpr int kMapAlignment = 64;
constexpr int kDepth = 16;                               // of a product
constexpr int kGroupThreads = 128;                       // of a warp group
constexpr int64_t kBarrierMax = (int64_t{1} << 20) - 1;  // arrivals, and bytes, of a phase

struct BarrierState {
  int expected = 0;
  int pending = 0;
  int64_t bytes = 0;  // expected less arrived
  unsigned phase = 0;
  bool fenced = false;
};

struct TileCopy {
  unsigned char* to;
  EmulatedTileMap map;
  TileCoordinates from;
  uint64_t* barrier;
};

struct StartedProduct {
  Product product;
  const unsigned* quad[4];  // the A registers of the lanes that share this thread's rows
};

// One `.aligned` instruction of a warp group, which all of its threads execute alike.
struct GroupStep {
  enum class Kind { kFence, kProduct, kCommit, kWait };
  Kind kind;
  int number = 0;  // the groups left at a wait, the columns of a product, negative where it adds
  uint64_t a = 0, b = 0;  // descriptors
  bool operator==(const GroupStep&) const = default;
};

struct ThreadProducts {
  bool fenced = false;
  std::vector<std::vector<StartedProduct>> groups;  // the last one is not committed yet
  size_t steps = 0;                                 // of its warp group that it has executed
};

struct NamedBarrier {
  int threads = 0;
  int arrived = 0;
  uint64_t generation = 0;
};

struct HopperBlock {
  std::map<uint64_t*, BarrierState> barriers;
  std::vector<TileCopy> copies;
  std::vector<ThreadProducts> products;
  std::vector<std::vector<GroupStep>> steps;  // of each warp group
  NamedBarrier named[16];
  // Shared memory as the asynchronous proxy knows it: what bulk copies wrote, and nothing of what
  // threads stored.
  std::vector<unsigned char> proxy;
};

HopperBlock block;
Arrival arrival = Arrival::kLast;

BarrierState& Find(uint64_t* state) {
  const auto at = block.barriers.find(state);
  if (at == block.barriers.end()) Fail("a memory barrier that was not initialised");
  if (*state != kBarrierWord) Fail("a memory barrier was overwritten");
  return at->second;
}

void CompletePhase(BarrierState* barrier) {
  if (barrier->pending < 0) Fail("more arrivals at a memory barrier than a phase of it expects");
  if (std::abs(barrier->bytes) > kBarrierMax) Fail("more bytes than a memory barrier counts");
  if (barrier->pending > 0 || barrier->bytes != 0) return;
  barrier->pending = barrier->expected;
  barrier->phase ^= 1U;
}

// Copies and products see no store of a thread that no fence of the proxies has shown them.
void CheckProxy(uint64_t address, uint64_t bytes, const char* what) {
  if (std::memcmp(&block.proxy[address], SharedMemory() + address, bytes) != 0) Fail(what);
}

// Where an address of a tile with the 128-byte swizzle lies.
uint64_t Swizzle(uint64_t address) { return address ^ ((address >> 7 & 7U) << 4); }

void Perform(const TileCopy& copy) {
  const EmulatedTileMap& map = copy.map;
  const auto start = static_cast<uint64_t>(copy.to - SharedMemory());
  for (uint32_t row = 0; row < map.box[2]; ++row) {
    for (uint32_t c = 0; c < map.box[0]; ++c) {
      const int64_t at[4] = {copy.from.at[0] + c, copy.from.at[1], copy.from.at[2] + row,
                             copy.from.at[3]};
      bool inside = true;
      for (int i = 0; i < 4; ++i) {
        inside = inside && at[i] >= 0 && static_cast<uint64_t>(at[i]) < map.dims[i];
      }
      uint16_t value = 0;
      if (inside) {
        const unsigned char* from = map.data + at[0] * kElementBytes;
        for (int i = 1; i < 4; ++i) from += at[i] * static_cast<int64_t>(map.stride_bytes[i - 1]);
        std::memcpy(&value, from, sizeof(value));
      }
      const uint64_t to = Swizzle(start + row * kSwizzledRowBytes + c * kElementBytes);
      std::memcpy(SharedMemory() + to, &value, sizeof(value));
      std::memcpy(&block.proxy[to], &value, sizeof(value));
    }
  }
  BarrierState& barrier = Find(copy.barrier);
  barrier.bytes -= int64_t{map.box[2]} * kSwizzledRowBytes;
  CompletePhase(&barrier);
}

void PerformCopiesOf(const uint64_t* state) {
  for (size_t i = 0; i < block.copies.size();) {
    if (block.copies[i].barrier != state) {
      ++i;
      continue;
    }
    const TileCopy copy = block.copies[i];
    block.copies.erase(block.copies.begin() + static_cast<std::ptrdiff_t>(i));
    Perform(copy);
  }
}

// Fields of a matrix descriptor.
struct Descriptor {
  explicit Descriptor(uint64_t bits)
      : start((bits & 0x3FFF) * 16),
        leading((bits >> 16 & 0x3FFF) * 16),
        stride((bits >> 32 & 0x3FFF) * 16) {
    if (bits >> 62 != 1) Fail("a matrix descriptor without the 128-byte swizzle");
    if ((bits >> 49 & 7) != 0) Fail("a matrix descriptor with a base offset");
  }
  uint64_t start, leading, stride;

  // Row or column `i` outside the sum, `k` inside it.
  float AcrossRows(int i, int k) const {
    return Element(start + static_cast<uint64_t>(i) / 8 * stride +
                   static_cast<uint64_t>(i % 8 * kSwizzledRowBytes + k * kElementBytes));
  }
  float AlongRows(int i, int k) const {
    return Element(start + static_cast<uint64_t>(i) / 64 * leading +
                   static_cast<uint64_t>(k) / 8 * stride +
                   static_cast<uint64_t>(i % 64 * kElementBytes + k % 8 * kSwizzledRowBytes));
  }

 private:
  static float Element(uint64_t address) {
    if (address + kElementBytes > SharedBytes()) Fail("an operand outside shared memory");
    CheckProxy(Swizzle(address), kElementBytes, "a product of what threads stored, not fenced");
    uint16_t bits = 0;
    std::memcpy(&bits, SharedMemory() + Swizzle(address), sizeof(bits));
    return sinkforge::kernels::FromBfloat16(bits);
  }
};

// This thread's part of a product: rows g and g + 8 of its warp's 16, columns 8 n + c and the next,
// with g = lane / 4 and c = 2 (lane % 4).
void Compute(const StartedProduct& started) {
  const Product& product = started.product;
  const int row0 = Thread() % 128 / 32 * 16 + Lane() / 4;
  float a[2][kDepth];
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < kDepth; ++k) {
      if (product.a == nullptr) {
        a[half][k] = Descriptor(product.a_descriptor).AcrossRows(row0 + 8 * half, k);
      } else {
        const unsigned pair = started.quad[k % 8 / 2][half + k / 8 * 2];
        a[half][k] =
            sinkforge::kernels::FromBfloat16(static_cast<uint16_t>(k % 2 == 0 ? pair : pair >> 16));
      }
    }
  }
  const Descriptor b(product.b_descriptor);
  for (int n = 0; n < product.columns / 8; ++n) {
    for (int i = 0; i < 2; ++i) {
      const int column = 8 * n + Lane() % 4 * 2 + i;
      float sums[2] = {0, 0};
      for (int k = 0; k < kDepth; ++k) {
        const float x = product.a == nullptr ? b.AcrossRows(column, k) : b.AlongRows(column, k);
        for (int half = 0; half < 2; ++half) sums[half] += a[half][k] * x;
      }
      for (int half = 0; half < 2; ++half) {
        float& d = product.d[4 * n + 2 * half + i];
        d = (product.sum ? d : 0.0F) + sums[half];
      }
    }
  }
}

ThreadProducts& Own() { return block.products[static_cast<size_t>(Thread())]; }

// The calling thread's next step; the first thread of the group that comes to it sets what it is.
void Together(const GroupStep& step) {
  ThreadProducts& own = Own();
  std::vector<GroupStep>& steps = block.steps[static_cast<size_t>(Thread() / kGroupThreads)];
  if (own.steps == steps.size()) steps.push_back(step);
  if (steps[own.steps++] != step) Fail("threads of a warp group that do not do the same");
}

// Named barriers count warps: all lanes of one come together, to the same barrier.
void CheckWarpAt(int id, int threads) {
  const int own[2] = {id, threads};
  const unsigned char* slots = Exchange(own, sizeof(own));
  for (int lane = 0; lane < 32; ++lane) {
    if (std::memcmp(slots + static_cast<size_t>(lane) * kSlotBytes, own, sizeof(own)) != 0) {
      Fail("lanes of a warp at different named barriers");
    }
  }
  if (threads % 32 != 0) Fail("a named barrier is for whole warps");
}

NamedBarrier& ArriveAt(int id, int threads) {
  if (id < 1 || id > 15) Fail("named barriers are 1 to 15");
  NamedBarrier& barrier = block.named[id];
  if (barrier.arrived > 0 && barrier.threads != threads) {
    Fail("a named barrier for different numbers of threads");
  }
  barrier.threads = threads;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.generation;
  }
  return barrier;
}

}  // namespace

void SetArrival(Arrival when) { arrival = when; }

void InitBarrier(uint64_t* state, int arrivals) {
  if (reinterpret_cast<uintptr_t>(state) % sizeof(*state) != 0) Fail("a misaligned memory barrier");
  if (arrivals < 1 || arrivals > kBarrierMax) Fail("a memory barrier for no arrivals, or too many");
  if (block.barriers.count(state) != 0) Fail("a memory barrier is initialised twice");
  *state = kBarrierWord;
  BarrierState barrier;
  barrier.expected = barrier.pending = arrivals;
  block.barriers[state] = barrier;
}

void FenceBarrierInit() {
  for (auto& [state, barrier] : block.barriers) barrier.fenced = true;
}

void Arrive(uint64_t* state, int bytes) {
  BarrierState& barrier = Find(state);
  barrier.bytes += bytes;
  --barrier.pending;
  CompletePhase(&barrier);
}

void WaitBarrier(uint64_t* state, unsigned parity) {
  const auto over = [state, parity] {
    if (Find(state).phase == parity) PerformCopiesOf(state);
    return Find(state).phase != parity;
  };
  if (!over()) WaitUntil(over);
}

void CopyTileAsync(void* to, const void* map, const TileCoordinates& from, uint64_t* barrier) {
  if (!Find(barrier).fenced) Fail("a barrier's initialisation was not fenced before a copy");
  if (reinterpret_cast<uintptr_t>(map) % kMapAlignment != 0) Fail("a misaligned tensor map");
  TileCopy copy;
  copy.to = static_cast<unsigned char*>(to);
  std::memcpy(&copy.map, map, sizeof(copy.map));
  copy.from = from;
  copy.barrier = barrier;
  const auto start = static_cast<uint64_t>(copy.to - SharedMemory());
  const uint64_t bytes = uint64_t{copy.map.box[2]} * kSwizzledRowBytes;
  if (start % kTileAlignment != 0) Fail("a tile must be aligned to 1,024 bytes");
  if (start + bytes > SharedBytes()) Fail("a tile outside shared memory");
  CheckProxy(start, bytes, "a bulk copy over what threads stored, not fenced");
  // From here on nobody may rely on what was there.
  std::memset(copy.to, 0xFF, bytes);
  std::memset(&block.proxy[start], 0xFF, bytes);
  block.copies.push_back(copy);
  if (arrival == Arrival::kFirst) PerformCopiesOf(barrier);
}

void WaitAtNamedBarrier(int id, int threads) {
  CheckWarpAt(id, threads);
  const uint64_t generation = block.named[id].generation;
  const NamedBarrier& barrier = ArriveAt(id, threads);
  if (barrier.generation != generation) return;
  WaitUntil([&barrier, generation] { return barrier.generation != generation; });
}

void ArriveAtNamedBarrier(int id, int threads) {
  CheckWarpAt(id, threads);
  ArriveAt(id, threads);
}

void FenceProducts() {
  Together({GroupStep::Kind::kFence});
  Own().fenced = true;
}

void StartProduct(const Product& product) {
  Together({GroupStep::Kind::kProduct, product.sum ? -product.columns : product.columns,
            product.a_descriptor, product.b_descriptor});
  ThreadProducts& own = Own();
  if (!own.fenced) Fail("a group of products was started without a fence");
  StartedProduct started = {product, {}};
  const unsigned char* slots = Exchange(&product.a, sizeof(product.a));
  for (int i = 0; i < 4; ++i) {
    started.quad[i] = ValueOfLane<const unsigned*>(slots, Lane() / 4 * 4 + i);
  }
  if (arrival == Arrival::kFirst) {
    Compute(started);
    SyncWarp();  // Other lanes' registers were read.
  } else {
    own.groups.back().push_back(started);
  }
}

void CommitProducts() {
  Together({GroupStep::Kind::kCommit});
  Own().groups.emplace_back();
  // Stricter than the hardware, which needs no fence where nothing has touched the registers.
  Own().fenced = false;
}

void WaitProducts(int left) {
  Together({GroupStep::Kind::kWait, left});
  ThreadProducts& own = Own();
  own.fenced = false;
  // So that who was told too early that the operands are free overwrites them now.
  if (arrival == Arrival::kLast) LetOthersRun();
  SyncWarp();
  while (static_cast<int>(own.groups.size()) - 1 > left) {
    for (const StartedProduct& started : own.groups.front()) Compute(started);
    own.groups.erase(own.groups.begin());
  }
  SyncWarp();
}

void BeginHopperBlock(int threads) {
  block = HopperBlock();
  block.products.resize(static_cast<size_t>(threads));
  for (ThreadProducts& thread : block.products) thread.groups.resize(1);
  block.steps.resize(static_cast<size_t>((threads + kGroupThreads - 1) / kGroupThreads));
  block.proxy.assign(SharedMemory(), SharedMemory() + SharedBytes());
}

void EndHopperBlock() {
  if (!block.copies.empty()) Fail("a bulk copy that nobody waited for");
  for (const ThreadProducts& thread : block.products) {
    if (thread.groups.size() > 1 || !thread.groups.front().empty()) {
      Fail("a product that was not waited for");
    }
  }
  for (size_t i = 0; i < block.products.size(); ++i) {
    if (block.products[i].steps != block.steps[i / kGroupThreads].size()) {
      Fail("a product that not all threads of a warp group have started");
    }
  }
  for (const NamedBarrier& barrier : block.named) {
    if (barrier.arrived != 0) Fail("a named barrier that not all have reached");
  }
}

}  // namespace emulation
