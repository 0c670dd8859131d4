// The CPU backend against the reference, case by case: values within the derived bound, guard zones
// and inputs untouched, at every processor level that this machine has; the same bits twice, and
// the same bits under load.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <ostream>
#include <thread>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/ref/ref_backend.h"
#include "tests/conformance/harness.h"

namespace sinkforge::kernels::conformance {

// How GoogleTest prints a case.
static void PrintTo(const OpCase& op, std::ostream* out) { *out << op.name; }

namespace {

using ::testing::IsEmpty;

class ConformanceTest : public ::testing::TestWithParam<OpCase> {
 protected:
  void ExpectConforms(Backend* backend) {
    const CaseResult tested = RunCase(GetParam(), backend);
    EXPECT_THAT(tested.broken_guards, IsEmpty());
    EXPECT_THAT(tested.changed_inputs, IsEmpty());
    EXPECT_THAT(CompareToReference(tested, ref32_, exact_), IsEmpty());
  }

  const CaseResult ref32_ = RunCase(GetParam(), MakeRefBackend(DType::kF32).get());
  const CaseResult exact_ = RunCase(GetParam(), MakeRefBackend(DType::kF64).get());
};

TEST_P(ConformanceTest, ReferenceKeepsGuardsAndInputs) {
  for (const CaseResult* result : {&ref32_, &exact_}) {
    EXPECT_THAT(result->broken_guards, IsEmpty());
    EXPECT_THAT(result->changed_inputs, IsEmpty());
  }
}

TEST_P(ConformanceTest, CpuAgreesWithReferenceAtEveryLevelAndThreadCount) {
  for (SimdLevel level : {SimdLevel::kBaseline, SimdLevel::kAvx2, SimdLevel::kAvx512}) {
    if (FindSimdKernels(level) == nullptr) continue;
    for (int threads : {1, 3}) {
      SCOPED_TRACE(std::string(FindSimdKernels(level)->name) + ", threads " +
                   std::to_string(threads));
      ExpectConforms(MakeCpuBackend({.threads = threads, .level = level}).get());
    }
  }
}

TEST_P(ConformanceTest, SameBitsTwice) {
  const CaseResult first = RunCase(GetParam(), MakeCpuBackend(2).get());
  // Another backend object, whose workspace has already been used.
  const CaseResult second = RunCase(GetParam(), MakeCpuBackend(2).get(), 2);
  EXPECT_THAT(DifferingBits(first, second), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Ops, ConformanceTest, ::testing::ValuesIn(AllOpCases()),
                         [](const auto& param_info) { return param_info.param.name; });

TEST(DeterminismTest, SameBitsUnderLoad) {
  std::vector<CaseResult> quiet;
  const std::vector<OpCase> cases = AllOpCases();
  const auto backend = MakeCpuBackend(3);
  for (const OpCase& op : cases) quiet.push_back(RunCase(op, backend.get()));
  std::atomic<bool> stop{false};
  std::vector<std::thread> load;
  for (int i = 0; i < 4; ++i) {
    load.emplace_back([&stop] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_THAT(DifferingBits(quiet[i], RunCase(cases[i], backend.get())), IsEmpty())
        << cases[i].name;
  }
  stop.store(true);
  for (std::thread& thread : load) thread.join();
}

}  // namespace
}  // namespace sinkforge::kernels::conformance
