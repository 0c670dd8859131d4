// ExportedModel: what `sinkforge checkpoints export` writes: the job that a model comes from, and
// its parameters.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "sinkforge/v1/job.pb.h"
#include "worker/trainer/core/config.h"
#include "worker/trainer/core/parameters.h"

namespace sinkforge::trainer {

struct ExportedModel {
  std::string path;  // of the safetensors file
  v1::JobSpec spec;
  std::string job_id;           // empty: not known
  std::optional<int64_t> step;  // of the checkpoint, where it is known
  std::string tokenizer;        // fingerprint of the one that it was trained with; empty: not known
  ModelConfig config;
};

// `path`: the file, or a folder that holds model.safetensors or one other safetensors file.
// kNotFound: there is none. kInvalidData: it is no export.
kernels::Result<ExportedModel> OpenExportedModel(const std::string& path);

// Into `parameters`, which are made of model.config on `backend`. kInvalidData: the file is not
// whole.
kernels::Status LoadWeights(const ExportedModel& model, kernels::Backend* backend,
                            ParameterSet* parameters);

}  // namespace sinkforge::trainer
