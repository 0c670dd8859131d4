// After the first call of a shape no op allocates: this program counts every operator new while the
// whole conformance table runs a second time on warm backends.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/ref/ref_backend.h"
#include "tests/conformance/harness.h"

namespace {

std::atomic<int64_t> allocations{0};
std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> peak_bytes{0};

void* CountedAllocation(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  const int64_t live = live_bytes += static_cast<int64_t>(malloc_usable_size(memory));
  int64_t peak = peak_bytes.load();
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return memory;
}

void Release(void* memory) {
  live_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t size) { return CountedAllocation(size); }
void* operator new[](std::size_t size) { return CountedAllocation(size); }
void operator delete(void* memory) noexcept { Release(memory); }
void operator delete[](void* memory) noexcept { Release(memory); }
void operator delete(void* memory, std::size_t) noexcept { Release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { Release(memory); }

namespace sinkforge::kernels::conformance {
namespace {

// Runs the case twice; what the op itself allocated in the last run, when its workspace had been
// grown by its own first run at the latest.
int64_t AllocationsOfWarmRun(const OpCase& op, Backend* backend) {
  int64_t last = 0;
  OpCase counted = op;
  counted.run = [&](Backend* b, const TensorMap& tensors) {
    const int64_t before = allocations.load();
    op.run(b, tensors);
    last = allocations.load() - before;
  };
  RunCase(counted, backend, 2);
  return last;
}

void ExpectNoAllocations(Backend* backend) {
  for (const OpCase& op : AllOpCases()) {
    EXPECT_EQ(AllocationsOfWarmRun(op, backend), 0) << op.name;
  }
}

TEST(AllocationTest, CounterCounts) {
  const int64_t before = allocations.load();
  // Called by name: the compiler may leave out a new-expression whose result is unused.
  ::operator delete(::operator new(1));
  EXPECT_EQ(allocations.load(), before + 1);
}

TEST(AllocationTest, CpuBackendWithThreads) { ExpectNoAllocations(MakeCpuBackend(3).get()); }
TEST(AllocationTest, CpuBackendAlone) { ExpectNoAllocations(MakeCpuBackend(1).get()); }
// 1024 rows of 65,536 logits are 256 MiB, of which the op may hold half: two blocks, which give the
// bits of two calls.
TEST(AllocationTest, CrossEntropyHoldsABlockOfLogitsAlone) {
  constexpr int64_t kRows = 1024;
  constexpr int64_t kWidth = 4;
  constexpr int64_t kVocabulary = 65'536;
  const auto backend = MakeCpuBackend(2);
  std::vector<Tensor> made;
  const auto make = [&](std::initializer_list<int64_t> dims, DType dtype) {
    Tensor tensor(nullptr, dtype, dims);
    tensor.data = backend->Allocate(tensor.bytes());
    for (int64_t i = 0; dtype == DType::kF32 && i < tensor.elements(); ++i) {
      tensor.as<float>()[i] = std::sin(static_cast<float>(i));
    }
    made.push_back(tensor);
    return tensor;
  };
  CrossEntropyArgs whole;
  whole.x = make({kRows, kWidth}, DType::kF32);
  whole.w = make({kVocabulary, kWidth}, DType::kF32);
  whole.targets = make({kRows}, DType::kI32);
  whole.loss_scale = 1;
  for (int64_t i = 0; i < kRows; ++i) {
    whole.targets.as<int32_t>()[i] = static_cast<int32_t>(63 * i);
  }
  CrossEntropyArgs halves = whole;
  for (CrossEntropyArgs* args : {&whole, &halves}) {
    args->losses = make({kRows}, DType::kF32);
    args->d_x = make({kRows, kWidth}, DType::kF32);
    args->d_w = make({kVocabulary, kWidth}, DType::kF32);
  }
  peak_bytes = live_bytes.load();
  const int64_t before = live_bytes;
  backend->CrossEntropy(whole);
  // The logits, and under a mebibyte for the rest: the matrix library's code is in it.
  EXPECT_LE(peak_bytes - before, (128 << 20) + (1 << 20));
  for (int64_t first = 0; first < kRows; first += kRows / 2) {
    CrossEntropyArgs half = halves;
    for (Tensor* tensor : {&half.x, &half.targets, &half.losses, &half.d_x}) {
      const int64_t row_bytes = tensor->bytes() / kRows;
      tensor->data = tensor->as<char>() + first * row_bytes;
      tensor->shape[0] = kRows / 2;
    }
    backend->CrossEntropy(half);
  }
  for (const auto& [a, b] : {std::pair{whole.losses, halves.losses},
                             std::pair{whole.d_x, halves.d_x}, std::pair{whole.d_w, halves.d_w}}) {
    EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())), 0);
  }
  for (const Tensor& tensor : made) backend->Free(tensor.data);
}

TEST(AllocationTest, RefBackend) { ExpectNoAllocations(MakeRefBackend(DType::kF32).get()); }

}  // namespace
}  // namespace sinkforge::kernels::conformance
