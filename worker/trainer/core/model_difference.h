// What a file of parameters says of the model that it is of, for people who start from it.
#pragma once

#include <string>
#include <vector>

#include "worker/trainer/core/config.h"
#include "worker/trainer/core/host.h"

namespace sinkforge::trainer {

// "model.mlp is relu_squared there and swiglu in the job, model.mlp_width 1024 and 704": the keys
// of the job file by which the tensors' names and shapes differ from `model`'s. Empty where none
// does, or where the tensors are not of this family of models.
std::string DescribeModelDifference(const ModelConfig& model,
                                    const std::vector<SnapshotTensor>& tensors);

// The same of what the tensors do not show, where `file` is what a file says of the model that its
// parameters were trained in: with other settings they compute something else.
std::string DescribeSettingsDifference(const ModelConfig& model, const ModelConfig& file);

}  // namespace sinkforge::trainer
