// The job file travels in the export's metadata.
#include "worker/trainer/exported_model.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>
#include <vector>

#include "proto/jobspec/job_file.h"
#include "proto/jobspec/resolve.h"
#include "proto/safetensors/safetensors.h"
#include "worker/trainer/checkpoint_file.h"
#include "worker/trainer/core/tensor_snapshot.h"
#include "worker/trainer/job_config.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

namespace fs = std::filesystem;

constexpr char kJobFileKey[] = "sinkforge_job_file";
constexpr char kJobKey[] = "sinkforge_job";
constexpr char kStepKey[] = "sinkforge_step";
constexpr char kTokenizerKey[] = "sinkforge_tokenizer";

Result<std::string> FindFile(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (fs::exists(path, error)) return path;
    return Status(StatusCode::kNotFound, path + ": there is no such file or folder");
  }
  const fs::path named = fs::path(path) / "model.safetensors";
  if (fs::exists(named, error)) return named.string();
  std::vector<std::string> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(path, error)) {
    if (entry.path().extension() == ".safetensors") found.push_back(entry.path().string());
  }
  if (found.size() == 1) return found[0];
  return Status(StatusCode::kNotFound, path + ": holds " +
                                           (found.empty() ? "no" : "more than one") +
                                           " safetensors file; name the file");
}

// Into what the export says of where it comes from.
Status ReadOrigin(const std::string& path, ExportedModel* model) {
  safetensors::Failure failure;
  const auto reader = safetensors::Reader::Open(path, &failure);
  if (reader == nullptr) return Status(StatusCode::kInvalidData, failure.message);
  const auto text = reader->metadata().find(kJobFileKey);
  if (text == reader->metadata().end()) {
    return Status(StatusCode::kInvalidData,
                  path +
                      ": says nothing of the job it comes from; make it with `sinkforge "
                      "checkpoints export`");
  }
  jobspec::ParsedJobFile job = jobspec::ParseJobFile(text->second);
  if (!job.ok() || !jobspec::ResolveAndValidate(&job.spec).empty()) {
    return Status(StatusCode::kInvalidData,
                  path + ": its job is not one of this version; export the checkpoint again");
  }
  model->spec = std::move(job.spec);
  const auto text_of = [&](const char* key) {
    const auto found = reader->metadata().find(key);
    return found == reader->metadata().end() ? std::string() : found->second;
  };
  model->job_id = text_of(kJobKey);
  const std::string step = text_of(kStepKey);
  int64_t number = 0;
  const auto end = std::from_chars(step.data(), step.data() + step.size(), number);
  if (end.ec == std::errc() && end.ptr == step.data() + step.size()) model->step = number;
  model->tokenizer = text_of(kTokenizerKey);
  return Status();
}

}  // namespace

Result<ExportedModel> OpenExportedModel(const std::string& path) {
  Result<std::string> file = FindFile(path);
  if (!file.ok()) return file.status();
  ExportedModel model;
  model.path = file.value();
  if (Status status = ReadOrigin(model.path, &model); !status.ok()) return status;
  model.config = ToTrainingConfig(model.spec).model;
  return model;
}

Status LoadWeights(const ExportedModel& model, kernels::Backend* backend,
                   ParameterSet* parameters) {
  const Result<std::vector<SnapshotTensor>> tensors = ReadParameters(model.path);
  if (!tensors.ok()) return tensors.status();
  std::vector<TensorPart> wanted;
  for (const Parameter& parameter : parameters->all()) {
    wanted.push_back(WholeOf({parameter.spec.name, parameter.weight.value}));
  }
  const Status status =
      AssembleTensors(wanted, tensors.value(), ForeignTensors::kPassOptimizer, backend);
  if (!status.ok()) return Status(StatusCode::kInvalidData, model.path + ": " + status.message());
  parameters->RefreshWorkingCopies();
  return status;
}

}  // namespace sinkforge::trainer
