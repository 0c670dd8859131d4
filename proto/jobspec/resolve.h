// Resolve: presets and defaults, so that a stored job has every field set and never changes its
// meaning when a default changes.
//
// Defaults: model 4 layers, width 256, 8 heads (with a preset: d<depth> has <depth> layers, width
// 64 * depth and heads of 128 channels), vocab_size 256, vanilla attention; no head-balance loss
// (coefficient 1e-3 once a loss is chosen); rows of 256 tokens, 8 rows a micro-batch, the smallest
// batch of at least 8,192 tokens (of whole rows where the micro-batch is `auto`); Muon; evaluation
// of 65,536 tokens every 50 steps; a checkpoint every 100 steps, the last 3 kept; one CPU rank of 2
// threads. The rest is beside the fields in job.proto.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "proto/jobspec/violation.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::jobspec {

// Fills what is absent and turns `tokens` or `tokens_per_parameter` into `steps`. Resolving a
// resolved spec changes nothing. Violations: an unknown preset, not exactly one length of training.
std::vector<Violation> Resolve(v1::JobSpec* spec);

// Resolve and Validate (validate.h): what both find, or the unknown preset alone.
std::vector<Violation> ResolveAndValidate(v1::JobSpec* spec);

// Resolve and ValidateNew, likewise.
std::vector<Violation> ResolveAndValidateNew(v1::JobSpec* spec);

// Exact number of trainable parameters of a resolved model, sink logits and gate weights included;
// absent where a dimension is outside the limits of validate.h.
std::optional<int64_t> ParameterCount(const v1::ModelSpec& model);

}  // namespace sinkforge::jobspec
