// ExportedModel: what `sinkforge checkpoints export` writes, ready to be run: the parameters in
// memory, and the job they come from.
#pragma once

#include <memory>
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
  std::string tokenizer;  // fingerprint of the one that it was trained with; empty: not known
  ModelConfig config;
  std::unique_ptr<ParameterSet> parameters;
};

// `path`: the file, or a folder that holds model.safetensors or one other safetensors file.
// kNotFound: there is none. kInvalidData: it is no export, or not whole. kResourceExhausted.
kernels::Result<ExportedModel> LoadExportedModel(const std::string& path,
                                                 kernels::Backend* backend);

}  // namespace sinkforge::trainer
