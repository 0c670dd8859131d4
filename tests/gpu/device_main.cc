// The conformance table on CudaBackend without a test library:
//
//   ... [part of a case's name] [others|hopper]
//
// holds every precision and every path of attention, or only the Hopper one or all others, against
// the float64 reference, bounded by twice the error of the readable backend in the same precision,
// and runs each case twice for equal bits where the order of sums is fixed. Then the paths of
// attention at longer shapes against each other (device_attention.h), whole models (device_model.h)
// and the memory that they take (device_memory.h). Prints one line a failure and a count at the
// end, and exits with 1 if anything failed.
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/ref/ref_backend.h"
#include "kernels/ref/ref_mixed_backend.h"
#include "tests/conformance/harness.h"
#include "tests/gpu/device_attention.h"
#include "tests/gpu/device_memory.h"
#include "tests/gpu/device_model.h"
#include "tests/gpu/device_run.h"

namespace sinkforge::kernels::conformance {
namespace {

struct Path {
  const char* name;
  CudaPrecision precision;
  CudaAttention attention;
  CudaGradientOrder order = CudaGradientOrder::kFixed;
};
constexpr Path kPaths[] = {
    {"float32", CudaPrecision::kFloat32, CudaAttention::kTensorCores},
    {"mixed", CudaPrecision::kMixed, CudaAttention::kTensorCores},
    {"mixed, a warp a row", CudaPrecision::kMixed, CudaAttention::kRows},
    {"mixed, Hopper", CudaPrecision::kMixed, CudaAttention::kHopper},
    {"mixed, any order", CudaPrecision::kMixed, CudaAttention::kTensorCores,
     CudaGradientOrder::kAny},
};

// Whether the path differs from the others in this case: only attention has more than one.
bool Concerns(const Path& path, const std::string& case_name) {
  const bool any_order = path.order == CudaGradientOrder::kAny;
  if (path.attention == CudaAttention::kTensorCores && !any_order) return true;
  if (case_name.compare(0, 10, "Attention_") != 0) return false;
  const auto ends_with = [&case_name](const std::string& end) {
    return case_name.size() > end.size() &&
           case_name.compare(case_name.size() - end.size(), end.size(), end) == 0;
  };
  if (any_order && ends_with("_d32")) return true;
  return path.attention == CudaAttention::kRows || ends_with("_d64") || ends_with("_d128");
}

void RunOne(const OpCase& op, const Path& path, Backend* tested, Backend* naive, Backend* exact,
            Counts* counts) {
  const InputPrecision precision = path.precision == CudaPrecision::kMixed
                                       ? InputPrecision::kBfloat16
                                       : InputPrecision::kFloat32;
  VaryExecution(0);
  const CaseResult result = RunCase(op, tested, 1, precision);
  VaryExecution(1);
  const CaseResult again = RunCase(op, tested, 1, precision);
  std::vector<std::string> failures = CompareToReference(result, RunCase(op, naive, 1, precision),
                                                         RunCase(op, exact, 1, precision));
  if (path.order == CudaGradientOrder::kFixed) {
    for (const std::string& name : DifferingBits(result, again)) {
      failures.push_back(name + ": other bits in a second run");
    }
  }
  for (const std::string& name : result.broken_guards) {
    failures.push_back(name + ": written out of bounds");
  }
  for (const std::string& name : result.changed_inputs) {
    failures.push_back(name + ": input changed");
  }
  for (const std::string& failure : failures) {
    std::printf("FAILED %s (%s): %s\n", op.name.c_str(), path.name, failure.c_str());
  }
  ++counts->run;
  if (!failures.empty()) ++counts->failed;
}

// False where the device can not be used at all.
bool RunOps(const Selection& selection, Counts* counts) {
  const auto ref32 = MakeRefBackend(DType::kF32);
  const auto mixed = MakeRefMixedBackend();
  const auto exact = MakeRefBackend(DType::kF64);
  for (const Path& path : kPaths) {
    if (!selection.Has(path.attention)) continue;
    if (path.attention == CudaAttention::kHopper && !HasHopperKernels(0)) {
      std::printf("NOT RUN %s: the device is not of compute capability 9.0\n", path.name);
      continue;
    }
    CudaBackendOptions options;
    options.precision = path.precision;
    options.attention = path.attention;
    options.gradient_order = path.order;
    options.logits_max = 8192;  // several blocks, the last one cut short, in the small cases too
    Result<std::unique_ptr<Backend>> tested = MakeCudaBackend(options);
    if (!tested.ok()) {
      std::printf("%s\n", tested.status().message().c_str());
      return false;
    }
    Backend* naive = path.precision == CudaPrecision::kMixed ? mixed.get() : ref32.get();
    for (const OpCase& op : AllOpCases()) {
      if (!selection.Has(op.name) || !Concerns(path, op.name)) continue;
      if (LeaveOut(op.name, path.attention, path.order)) continue;
      BeginCase(op.name + ", " + path.name);
      RunOne(op, path, tested.value().get(), naive, exact.get(), counts);
    }
  }
  return true;
}

// Empty where there is no such word.
std::vector<PathChoice> PathsOf(const std::string& word) {
  if (word.empty()) return {PathChoice::kOthers, PathChoice::kHopper};
  if (word == "others") return {PathChoice::kOthers};
  if (word == "hopper") return {PathChoice::kHopper};
  return {};
}

int RunAll(const std::string& name_part, const std::vector<PathChoice>& choices) {
  Counts counts;
  for (const PathChoice paths : choices) {
    const Selection selection = {name_part, paths};
    if (!RunOps(selection, &counts)) return 1;
    for (const Counts& more :
         {CheckLongAttention(selection), CheckModels(selection), CheckMemoryPlans(selection)}) {
      counts.run += more.run;
      counts.failed += more.failed;
    }
  }
  std::printf("%d cases, %d failed\n", counts.run, counts.failed);
  return counts.failed == 0 && counts.run > 0 ? 0 : 1;
}

}  // namespace
}  // namespace sinkforge::kernels::conformance

int main(int argc, char** argv) {
  // What was said before a case that ends the process is not lost.
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  using sinkforge::kernels::conformance::PathsOf;
  const auto choices = PathsOf(argc > 2 ? argv[2] : "");
  if (choices.empty() || argc > 3) {
    std::fprintf(stderr, "usage: %s [part of a case's name] [others|hopper]\n", argv[0]);
    return 2;
  }
  return sinkforge::kernels::conformance::RunAll(argc > 1 ? argv[1] : "", choices);
}
