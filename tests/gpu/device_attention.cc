// The path of a warp a row, which is held against the float64 reference at small shapes, is the
// reference here.
#include "tests/gpu/device_attention.h"

#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "tests/conformance/harness.h"
#include "tests/gpu/device_run.h"

namespace sinkforge::kernels::conformance {
namespace {

// Of an output's norm. P or dZ, what is stored, and on both sides what the backward reads of it are
// rounded to bfloat16, by at most 1/512 each; a tile in the wrong place is an error of order one.
constexpr double kErrorMax = 1.0 / 128;

struct Path {
  const char* name;
  CudaAttention attention;
};
constexpr Path kPaths[] = {{"tensor cores", CudaAttention::kTensorCores},
                           {"Hopper", CudaAttention::kHopper}};

std::unique_ptr<Backend> Make(CudaAttention attention) {
  CudaBackendOptions options;
  options.attention = attention;
  Result<std::unique_ptr<Backend>> made = MakeCudaBackend(options);
  if (!made.ok()) std::printf("%s\n", made.status().message().c_str());
  SINKFORGE_CHECK(made.ok());
  return std::move(made).value();
}

// Relative to the norm of `exact`; not a number where one of them is not.
double ErrorOf(const std::vector<double>& tested, const std::vector<double>& exact) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    error += (tested[i] - exact[i]) * (tested[i] - exact[i]);
    norm += exact[i] * exact[i];
  }
  return std::sqrt(error / norm);
}

bool Compare(const OpCase& op, const Path& path, const CaseResult& exact) {
  const std::unique_ptr<Backend> backend = Make(path.attention);
  VaryExecution(0);
  const CaseResult result = RunCase(op, backend.get(), 1, InputPrecision::kBfloat16);
  VaryExecution(1);
  const CaseResult again = RunCase(op, backend.get(), 1, InputPrecision::kBfloat16);
  std::vector<std::string> failures;
  double worst = 0;
  for (const auto& [name, values] : exact.outputs) {
    const double error = ErrorOf(result.outputs.at(name), values);
    worst = std::fmax(worst, error);
    // Written so that a NaN fails.
    if (error <= kErrorMax) continue;
    failures.push_back(name + ": off by " + std::to_string(error) + " of its norm");
  }
  for (const std::string& name : DifferingBits(result, again)) {
    failures.push_back(name + ": other bits in a second run");
  }
  for (const std::string& name : result.broken_guards) {
    failures.push_back(name + ": written out of bounds");
  }
  for (const std::string& failure : failures) {
    std::printf("FAILED %s (%s): %s\n", op.name.c_str(), path.name, failure.c_str());
  }
  std::printf("%s (%s): off by at most %.2g of an output's norm\n", op.name.c_str(), path.name,
              worst);
  return failures.empty();
}

}  // namespace

Counts CheckLongAttention(const Selection& selection) {
  Counts counts;
  const std::unique_ptr<Backend> rows = Make(CudaAttention::kRows);
  for (const NamedAttentionConfig& named : AttentionConfigs()) {
    // What the others differ in is done row by row, before and after the tiles.
    const AttentionConfig& config = named.config;
    const bool normed = config.head_norm == HeadNorm::kRms;
    if (config.lse_gradient == LseGradient::kDetached) continue;
    if (normed != (config.gate == GateGranularity::kElement)) continue;
    for (const AttentionShape& shape : LongAttentionShapes()) {
      OpCase op = AttentionCaseOf(named, shape);
      op.name = "Long" + op.name;
      if (!selection.Has(op.name)) continue;
      if (selection.paths == PathChoice::kHopper && !HasHopperKernels(0)) continue;
      BeginCase(op.name);
      const CaseResult exact = RunCase(op, rows.get(), 1, InputPrecision::kBfloat16);
      for (const Path& path : kPaths) {
        if (!selection.Has(path.attention)) continue;
        BeginCase(op.name + ", " + path.name);
        ++counts.run;
        if (!Compare(op, path, exact)) ++counts.failed;
      }
    }
  }
  return counts;
}

}  // namespace sinkforge::kernels::conformance
