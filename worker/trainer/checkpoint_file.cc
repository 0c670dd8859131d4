// The record and a digest of the data travel in the file's metadata.
#include "worker/trainer/checkpoint_file.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>

#include "proto/safetensors/safetensors.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

namespace fs = std::filesystem;

constexpr char kStateKey[] = "sinkforge_state";
constexpr char kDigestKey[] = "sinkforge_data_xxh3";
constexpr char kPrefix[] = "step-";
constexpr char kSuffix[] = ".safetensors";

Status FromFailure(const safetensors::Failure& failure, StatusCode content_code) {
  if (failure.error_number == 0) return Status(content_code, failure.message);
  const bool full = failure.error_number == ENOSPC || failure.error_number == EDQUOT;
  return Status(full ? StatusCode::kResourceExhausted : StatusCode::kUnavailable, failure.message);
}

// XXH3 over the bytes of all tensors in their order.
class DataDigest {
 public:
  DataDigest() : state_(XXH3_createState(), XXH3_freeState) {
    SINKFORGE_CHECK(state_ != nullptr);
    XXH3_64bits_reset(state_.get());
  }
  void Add(const std::vector<std::byte>& bytes) {
    XXH3_64bits_update(state_.get(), bytes.data(), bytes.size());
  }
  std::string Text() const { return std::to_string(XXH3_64bits_digest(state_.get())); }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

Result<SnapshotTensor> ReadTensor(const safetensors::Reader& reader,
                                  const safetensors::TensorInfo& info) {
  SnapshotTensor tensor;
  tensor.name = info.name;
  tensor.dtype = info.dtype;
  tensor.shape = info.shape;
  tensor.length = info.bytes() / safetensors::ElementBytes(info.dtype);
  tensor.bytes.resize(static_cast<size_t>(info.bytes()));
  safetensors::Failure failure;
  if (!reader.Read(info, 0, info.bytes(), tensor.bytes.data(), &failure)) {
    return Status(StatusCode::kDataLoss, failure.message);
  }
  return tensor;
}

// F64 or BF16 to F32, in place.
void ConvertToF32(SnapshotTensor* tensor) {
  std::vector<std::byte> converted(static_cast<size_t>(tensor->length) * sizeof(float));
  for (size_t i = 0; i < static_cast<size_t>(tensor->length); ++i) {
    float value = 0;
    if (tensor->dtype == "F64") {
      double wide = 0;
      std::memcpy(&wide, tensor->bytes.data() + i * sizeof(wide), sizeof(wide));
      value = static_cast<float>(wide);
    } else {
      uint16_t half = 0;
      std::memcpy(&half, tensor->bytes.data() + i * sizeof(half), sizeof(half));
      value = std::bit_cast<float>(uint32_t{half} << 16U);
    }
    std::memcpy(converted.data() + i * sizeof(value), &value, sizeof(value));
  }
  tensor->bytes = std::move(converted);
  tensor->dtype = "F32";
}

}  // namespace

std::string CheckpointPath(const std::string& folder, int64_t step) {
  return folder + "/" + kPrefix + std::to_string(step) + kSuffix;
}

std::vector<int64_t> ListCheckpoints(const std::string& folder) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    constexpr size_t kAround = sizeof(kPrefix) + sizeof(kSuffix) - 2;
    if (name.size() <= kAround || name.rfind(kPrefix, 0) != 0) continue;
    const char* begin = name.data() + sizeof(kPrefix) - 1;
    int64_t step = 0;
    const auto [end, code] = std::from_chars(begin, name.data() + name.size(), step);
    if (code == std::errc() && step >= 0 && std::string(end) == kSuffix) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

Status WriteCheckpointFile(const std::string& path, const Snapshot& snapshot,
                           const CheckpointRecord& record) {
  std::vector<safetensors::TensorInfo> infos;
  DataDigest digest;
  for (const SnapshotTensor& tensor : snapshot.tensors) {
    infos.push_back({tensor.name, tensor.dtype, tensor.shape, 0, 0});
    digest.Add(tensor.bytes);
  }
  const safetensors::Metadata metadata = {
      {safetensors::kSchemaVersionKey, std::to_string(safetensors::kSchemaVersion)},
      {kStateKey, ToJson(record)},
      {kDigestKey, digest.Text()}};
  safetensors::Failure failure;
  const auto writer = safetensors::Writer::Create(path, std::move(infos), metadata, &failure);
  if (writer == nullptr) return FromFailure(failure, StatusCode::kInternal);
  for (const SnapshotTensor& tensor : snapshot.tensors) {
    if (!writer->Append(tensor.bytes.data(), static_cast<int64_t>(tensor.bytes.size()), &failure)) {
      return FromFailure(failure, StatusCode::kInternal);
    }
  }
  if (!writer->Finish(&failure)) return FromFailure(failure, StatusCode::kInternal);
  return Status();
}

Result<StoredCheckpoint> ReadCheckpointFile(const std::string& path) {
  safetensors::Failure failure;
  const auto reader = safetensors::Reader::Open(path, &failure);
  if (reader == nullptr) {
    const bool newer = failure.message.find("schema version") != std::string::npos;
    return Status(newer ? StatusCode::kFailedPrecondition : StatusCode::kDataLoss, failure.message);
  }
  const auto state = reader->metadata().find(kStateKey);
  const auto digest_text = reader->metadata().find(kDigestKey);
  if (state == reader->metadata().end() || digest_text == reader->metadata().end()) {
    return Status(StatusCode::kDataLoss, path + ": is not a checkpoint of this program");
  }
  Result<CheckpointRecord> record = ParseRecord(state->second);
  if (!record.ok()) {
    return Status(record.status().code(), path + ": " + record.status().message());
  }
  StoredCheckpoint stored;
  stored.record = std::move(record).value();
  stored.snapshot.state = stored.record.state;
  stored.snapshot.loss = stored.record.loss;
  stored.snapshot.imbalance = stored.record.imbalance;
  DataDigest digest;
  for (const safetensors::TensorInfo& info : reader->tensors()) {
    Result<SnapshotTensor> tensor = ReadTensor(*reader, info);
    if (!tensor.ok()) return tensor.status();
    digest.Add(tensor.value().bytes);
    stored.snapshot.tensors.push_back(std::move(tensor).value());
  }
  if (digest.Text() != digest_text->second) {
    return Status(StatusCode::kDataLoss, path + ": is corrupt: the digest of its data differs");
  }
  return stored;
}

Result<std::vector<SnapshotTensor>> ReadParameters(const std::string& path) {
  safetensors::Failure failure;
  const auto reader = safetensors::Reader::Open(path, &failure);
  if (reader == nullptr) {
    return Status(StatusCode::kInvalidData, failure.message);
  }
  std::vector<SnapshotTensor> tensors;
  for (const safetensors::TensorInfo& info : reader->tensors()) {
    if (info.name.rfind("optimizer/", 0) == 0) continue;
    if (info.dtype != "F32" && info.dtype != "F64" && info.dtype != "BF16") {
      return Status(StatusCode::kInvalidData, path + ": tensor " + info.name + " is " + info.dtype +
                                                  "; parameters are F32, F64 or BF16");
    }
    Result<SnapshotTensor> tensor = ReadTensor(*reader, info);
    if (!tensor.ok()) return Status(StatusCode::kInvalidData, tensor.status().message());
    if (tensor.value().dtype != "F32") ConvertToF32(&tensor.value());
    tensors.push_back(std::move(tensor).value());
  }
  return tensors;
}

Status CheckFinite(const std::vector<SnapshotTensor>& parameters) {
  for (const SnapshotTensor& tensor : parameters) {
    for (size_t i = 0; i < static_cast<size_t>(tensor.length); ++i) {
      float value = 0;
      std::memcpy(&value, tensor.bytes.data() + i * sizeof(value), sizeof(value));
      if (std::isfinite(value)) continue;
      return Status(StatusCode::kInvalidData,
                    "tensor " + tensor.name + " is not finite: element " + std::to_string(i) +
                        " is " + std::to_string(value) + "; start from another file");
    }
  }
  return Status();
}

void RetainCheckpoints(const std::string& folder, int64_t keep) {
  std::error_code error;  // a file that cannot be deleted costs space, not the run
  std::vector<int64_t> steps = ListCheckpoints(folder);
  while (static_cast<int64_t>(steps.size()) > keep) {
    fs::remove(CheckpointPath(folder, steps.front()), error);
    steps.erase(steps.begin());
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".partial") fs::remove(entry.path(), error);
  }
}

}  // namespace sinkforge::trainer
