// Op cases as data: what an op reads and writes, at which shapes, and how to call it. The same
// table drives the GoogleTest wrapper and the plain main, which needs no test library and so runs
// on a bare machine.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace sinkforge::kernels::conformance {

enum class FieldType {
  kReal,       // the backend's activation dtype
  kStatistic,  // its compute dtype
  kDouble,     // float64 whatever the backend
  kInt,
};

// What a field holds before the op runs.
enum class Fill {
  kNormal,  // standard normal, rounded to float32
  kSmall,   // a tenth of that
  kSquare,  // its square: never negative (second moments)
  kToken,   // integers in [0, limit)
  kTarget,  // integers in [-1, limit)
  kNaN,     // for what the op must assign
  kZero,
};

enum class Role { kInput, kOutput };  // kOutput is compared; a kNormal output must be accumulated

struct Field {
  std::string name;
  std::vector<int64_t> shape;
  Fill fill = Fill::kNormal;
  Role role = Role::kInput;
  FieldType type = FieldType::kReal;
  int64_t limit = 0;  // of kToken and kTarget
};

// Looked up without making a string, so that a case's run allocates nothing of its own.
using TensorMap = std::map<std::string, Tensor, std::less<>>;

struct OpCase {
  std::string name;  // op, shape, mode: letters, digits and underscores
  std::vector<Field> fields;
  std::function<void(Backend* backend, const TensorMap& tensors)> run;
};

// Every op at ordinary and at odd shapes.
std::vector<OpCase> AllOpCases();
// The part of it that is attention: every configuration that the model allows.
std::vector<OpCase> AttentionCases();

// Every (variant, gate, head norm, LSE gradient) that makes a difference; named like "GatedHead_Rms
// _Detached".
struct NamedAttentionConfig {
  std::string name;
  AttentionConfig config;
};
std::vector<NamedAttentionConfig> AttentionConfigs();
// One of them at one shape.
OpCase AttentionCaseOf(const NamedAttentionConfig& named, const AttentionShape& shape);

}  // namespace sinkforge::kernels::conformance
