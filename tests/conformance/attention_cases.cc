// Attention forward and backward in one case: the backward needs what the same backend's forward
// left.
#include <string>
#include <string_view>

#include "tests/conformance/op_case.h"

namespace sinkforge::kernels::conformance {
namespace {

const AttentionShape kShapes[] = {
    {.batch = 2, .sequence = 1, .heads = 1, .kv_heads = 1, .head_dim = 8},
    {.batch = 1, .sequence = 7, .heads = 3, .kv_heads = 1, .head_dim = 8},
    {.batch = 2, .sequence = 129, .heads = 3, .kv_heads = 3, .head_dim = 32},
    {.batch = 1, .sequence = 70, .heads = 4, .kv_heads = 2, .head_dim = 64},
    {.batch = 1, .sequence = 200, .heads = 2, .kv_heads = 1, .head_dim = 128},
    {.batch = 1, .sequence = 260, .heads = 4, .kv_heads = 2, .head_dim = 64},
    {.batch = 3, .sequence = 64, .heads = 2, .kv_heads = 2, .head_dim = 32},
    {.batch = 1, .sequence = 130, .heads = 1, .kv_heads = 1, .head_dim = 20},
    {.batch = 1, .sequence = 641, .heads = 2, .kv_heads = 2, .head_dim = 16},
};

std::vector<Field> FieldsOf(const AttentionConfig& config, const AttentionShape& s) {
  const int64_t rows = s.batch * s.sequence;
  const std::vector<int64_t> wide = {rows, s.heads * s.head_dim};
  const std::vector<int64_t> narrow = {rows, s.kv_heads * s.head_dim};
  const std::vector<int64_t> stat = {s.batch, s.heads, s.sequence};
  std::vector<Field> fields = {
      {.name = "q", .shape = wide},
      {.name = "k", .shape = narrow},
      {.name = "v", .shape = narrow},
      {.name = "d_out", .shape = wide},
      {.name = "importance_gradient", .shape = {s.heads}, .type = FieldType::kDouble},
      {.name = "out", .shape = wide, .fill = Fill::kNaN, .role = Role::kOutput},
      {.name = "lse",
       .shape = stat,
       .fill = Fill::kNaN,
       .role = Role::kOutput,
       .type = FieldType::kStatistic},
      {.name = "gate",
       .shape = stat,
       .fill = Fill::kNaN,
       .role = Role::kOutput,
       .type = FieldType::kStatistic},
      {.name = "importance_sum",
       .shape = {s.heads},
       .role = Role::kOutput,
       .type = FieldType::kDouble},
      {.name = "d_q", .shape = wide, .fill = Fill::kNaN, .role = Role::kOutput},
      {.name = "d_k", .shape = narrow, .fill = Fill::kNaN, .role = Role::kOutput},
      {.name = "d_v", .shape = narrow, .fill = Fill::kNaN, .role = Role::kOutput},
  };
  if (config.variant == AttentionVariant::kSink) {
    fields.push_back({.name = "sinks", .shape = {s.heads}, .type = FieldType::kStatistic});
    fields.push_back({.name = "d_sinks",
                      .shape = {s.heads},
                      .role = Role::kOutput,
                      .type = FieldType::kStatistic});
  }
  if (config.variant == AttentionVariant::kGated) {
    const bool by_head = config.gate == GateGranularity::kHead;
    const std::vector<int64_t> gate = {rows, by_head ? s.heads : s.heads * s.head_dim};
    fields.push_back({.name = "gate_logits", .shape = gate});
    fields.push_back(
        {.name = "d_gate_logits", .shape = gate, .fill = Fill::kNaN, .role = Role::kOutput});
  }
  if (config.head_norm == HeadNorm::kRms) {
    fields.push_back({.name = "head_rstd",
                      .shape = stat,
                      .fill = Fill::kNaN,
                      .role = Role::kOutput,
                      .type = FieldType::kStatistic});
    if (config.variant == AttentionVariant::kGated) {
      fields.push_back(
          {.name = "normed", .shape = wide, .fill = Fill::kNaN, .role = Role::kOutput});
    }
  }
  return fields;
}

void Run(const AttentionConfig& config, const AttentionShape& shape, Backend* backend,
         const TensorMap& tensors) {
  const auto get = [&tensors](std::string_view name) {
    const auto at = tensors.find(name);
    return at == tensors.end() ? Tensor() : at->second;
  };
  AttentionForwardArgs forward;
  forward.q = get("q");
  forward.k = get("k");
  forward.v = get("v");
  forward.sinks = get("sinks");
  forward.gate_logits = get("gate_logits");
  forward.out = get("out");
  forward.lse = get("lse");
  forward.gate = get("gate");
  forward.normed = get("normed");
  forward.head_rstd = get("head_rstd");
  forward.importance_sum = get("importance_sum");
  backend->AttentionForward(config, shape, forward);
  AttentionBackwardArgs backward;
  backward.q = forward.q;
  backward.k = forward.k;
  backward.v = forward.v;
  backward.sinks = forward.sinks;
  backward.gate_logits = forward.gate_logits;
  backward.out = forward.out;
  backward.lse = forward.lse;
  backward.gate = forward.gate;
  backward.normed = forward.normed;
  backward.head_rstd = forward.head_rstd;
  backward.d_out = get("d_out");
  backward.importance_gradient = get("importance_gradient");
  backward.d_q = get("d_q");
  backward.d_k = get("d_k");
  backward.d_v = get("d_v");
  backward.d_sinks = get("d_sinks");
  backward.d_gate_logits = get("d_gate_logits");
  backend->AttentionBackward(config, shape, backward);
}

}  // namespace

std::vector<NamedAttentionConfig> AttentionConfigs() {
  std::vector<NamedAttentionConfig> configs;
  const auto add = [&configs](const char* name, AttentionVariant variant, GateGranularity gate) {
    for (HeadNorm norm : {HeadNorm::kNone, HeadNorm::kRms}) {
      // The model refuses this pair: the norm would cancel the gate.
      if (variant == AttentionVariant::kSink && norm == HeadNorm::kRms) continue;
      for (LseGradient lse : {LseGradient::kExact, LseGradient::kDetached}) {
        AttentionConfig config;
        config.variant = variant;
        config.gate = gate;
        config.head_norm = norm;
        config.lse_gradient = lse;
        configs.push_back({std::string(name) + (norm == HeadNorm::kRms ? "_Rms" : "") +
                               (lse == LseGradient::kExact ? "_Exact" : "_Detached"),
                           config});
      }
    }
  };
  add("Vanilla", AttentionVariant::kVanilla, GateGranularity::kHead);
  add("Sink", AttentionVariant::kSink, GateGranularity::kHead);
  add("GatedHead", AttentionVariant::kGated, GateGranularity::kHead);
  add("GatedElement", AttentionVariant::kGated, GateGranularity::kElement);
  return configs;
}

OpCase AttentionCaseOf(const NamedAttentionConfig& named, const AttentionShape& shape) {
  const AttentionConfig config = named.config;
  return {.name = "Attention_" + named.name + "_B" + std::to_string(shape.batch) + "_T" +
                  std::to_string(shape.sequence) + "_H" + std::to_string(shape.heads) + "_Hkv" +
                  std::to_string(shape.kv_heads) + "_d" + std::to_string(shape.head_dim),
          .fields = FieldsOf(config, shape),
          .run = [config, shape](Backend* backend, const TensorMap& tensors) {
            Run(config, shape, backend, tensors);
          }};
}

std::vector<OpCase> AttentionCases() {
  std::vector<OpCase> cases;
  for (const NamedAttentionConfig& named : AttentionConfigs()) {
    for (const AttentionShape& shape : kShapes) cases.push_back(AttentionCaseOf(named, shape));
  }
  return cases;
}

}  // namespace sinkforge::kernels::conformance
