// After the first call of a shape no op allocates: this program counts every operator new while the
// whole conformance table runs a second time on warm backends.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/ref/ref_backend.h"
#include "tests/conformance/harness.h"

namespace {

std::atomic<int64_t> allocations{0};

void* CountedAllocation(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return CountedAllocation(size); }
void* operator new[](std::size_t size) { return CountedAllocation(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

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
TEST(AllocationTest, RefBackend) { ExpectNoAllocations(MakeRefBackend(DType::kF32).get()); }

}  // namespace
}  // namespace sinkforge::kernels::conformance
