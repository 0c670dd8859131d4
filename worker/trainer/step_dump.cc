// One file for each kind of tensor.
#include "worker/trainer/step_dump.h"

#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "proto/safetensors/safetensors.h"

namespace sinkforge::trainer {

using kernels::Status;
using kernels::StatusCode;

namespace {

// A tensor to write, and its bytes, which the caller keeps.
struct Item {
  safetensors::TensorInfo info;
  const void* bytes = nullptr;
};

Status WriteItems(const std::string& path, const std::vector<Item>& items) {
  std::vector<safetensors::TensorInfo> infos;
  for (const Item& item : items) infos.push_back(item.info);
  const safetensors::Metadata metadata = {
      {safetensors::kSchemaVersionKey, std::to_string(safetensors::kSchemaVersion)}};
  safetensors::Failure failure;
  const auto writer = safetensors::Writer::Create(path, std::move(infos), metadata, &failure);
  bool written = writer != nullptr;
  for (size_t i = 0; written && i < items.size(); ++i) {
    const int64_t bytes = safetensors::TensorBytes(items[i].info.dtype, items[i].info.shape);
    written = writer->Append(items[i].bytes, bytes, &failure);
  }
  if (written) written = writer->Finish(&failure);
  if (written) return Status();
  return Status(
      failure.error_number == ENOSPC ? StatusCode::kResourceExhausted : StatusCode::kUnavailable,
      "--dump-step: " + failure.message);
}

std::vector<Item> ItemsOf(const std::vector<SnapshotTensor>& tensors) {
  std::vector<Item> items;
  for (const SnapshotTensor& tensor : tensors) {
    items.push_back({{tensor.name, tensor.dtype, tensor.shape, 0, 0}, tensor.bytes.data()});
  }
  return items;
}

}  // namespace

Status WriteStepDump(const StepDump& dump, const std::string& folder) {
  if (absl::Status made = base::MakeFolder(folder); !made.ok()) {
    return Status(StatusCode::kUnavailable, "--dump-step: " + std::string(made.message()));
  }
  const std::vector<int64_t> batch = {dump.micro_steps, dump.rows, dump.sequence};
  const auto layers = static_cast<int64_t>(dump.layer_cv.size());
  const int64_t heads = layers == 0 ? 0 : static_cast<int64_t>(dump.importance.size()) / layers;
  const std::pair<const char*, std::vector<Item>> files[] = {
      {"batch",
       {{{"inputs", "I32", batch, 0, 0}, dump.inputs.data()},
        {{"targets", "I32", batch, 0, 0}, dump.targets.data()}}},
      {"parameters", ItemsOf(dump.parameters)},
      {"gradients", ItemsOf(dump.gradients)},
      {"importance", {{{"importance", "F64", {layers, heads}, 0, 0}, dump.importance.data()}}}};
  for (const auto& [name, items] : files) {
    const std::string path = folder + "/" + name + ".safetensors";
    if (Status status = WriteItems(path, items); !status.ok()) return status;
  }
  const nlohmann::ordered_json losses = {{"base", dump.base},
                                         {"aux", dump.aux},
                                         {"imbalance", dump.imbalance},
                                         {"layer_cv", dump.layer_cv}};
  const absl::Status written =
      base::WriteFileDurably(folder + "/losses.json", losses.dump(2) + "\n");
  if (written.ok()) return Status();
  return Status(StatusCode::kUnavailable, "--dump-step: " + std::string(written.message()));
}

}  // namespace sinkforge::trainer
