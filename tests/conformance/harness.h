// Runs an op case on a backend between guard zones, and compares two backends by a bound that is
// derived from the error of the float32 reference.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/conformance/op_case.h"

namespace sinkforge::kernels::conformance {

// Values of every output, widened to float64.
struct CaseResult {
  std::map<std::string, std::vector<double>> outputs;
  // Fields whose guard zones the op wrote into.
  std::vector<std::string> broken_guards;
  // Inputs that the op changed.
  std::vector<std::string> changed_inputs;
};

// What the inputs of the activation dtype are rounded to before any backend gets them, so that the
// exact one works on what the tested one is given.
enum class InputPrecision { kFloat32, kBfloat16 };

// The same inputs for every backend: they are float32 numbers made from the case's name. Runs the
// op `runs` times on the same inputs and returns the last run's results.
CaseResult RunCase(const OpCase& op, Backend* backend, int runs = 1,
                   InputPrecision precision = InputPrecision::kFloat32);

// Empty if `tested` is as good as the reference of its precision: for every output,
//   ||tested - exact|| <= 2 ||ref32 - exact|| + 4 eps32 (||exact|| + sqrt(n)),
// all norms Euclidean, n elements. sqrt(n) is the norm of n numbers of the inputs' size, which is
// where the rounding of an output that cancels comes from.
std::vector<std::string> CompareToReference(const CaseResult& tested, const CaseResult& ref32,
                                            const CaseResult& exact);

// Outputs whose bits differ.
std::vector<std::string> DifferingBits(const CaseResult& a, const CaseResult& b);

}  // namespace sinkforge::kernels::conformance
