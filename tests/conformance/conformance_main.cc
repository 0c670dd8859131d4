// The conformance table without a test library: `sinkforge_conformance [part of a case's name]`
// holds the CPU backend against the reference, prints one line a failure and a count at the end,
// and exits with 1 if anything failed.
#include <cstdio>
#include <string>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/ref/ref_backend.h"
#include "tests/conformance/harness.h"

namespace sinkforge::kernels::conformance {
namespace {

int RunAll(const std::string& filter) {
  const auto ref32 = MakeRefBackend(DType::kF32);
  const auto ref64 = MakeRefBackend(DType::kF64);
  const auto tested = MakeCpuBackend(2);
  int run = 0;
  int failed = 0;
  for (const OpCase& op : AllOpCases()) {
    if (op.name.find(filter) == std::string::npos) continue;
    ++run;
    const CaseResult result = RunCase(op, tested.get());
    std::vector<std::string> failures =
        CompareToReference(result, RunCase(op, ref32.get()), RunCase(op, ref64.get()));
    for (const std::string& name : result.broken_guards) {
      failures.push_back(name + ": written out of bounds");
    }
    for (const std::string& name : result.changed_inputs) {
      failures.push_back(name + ": input changed");
    }
    for (const std::string& failure : failures) {
      std::printf("FAILED %s: %s\n", op.name.c_str(), failure.c_str());
    }
    if (!failures.empty()) ++failed;
  }
  std::printf("%d cases, %d failed\n", run, failed);
  return failed == 0 && run > 0 ? 0 : 1;
}

}  // namespace
}  // namespace sinkforge::kernels::conformance

int main(int argc, char** argv) {
  return sinkforge::kernels::conformance::RunAll(argc > 1 ? argv[1] : "");
}
