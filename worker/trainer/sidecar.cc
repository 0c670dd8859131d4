// Sidecars of .bin shards: without one, bits per byte are absent, not wrong.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/trainer/data_files.h"

namespace sinkforge::trainer {

using kernels::Status;
using kernels::StatusCode;

namespace {

constexpr char kBin[] = ".bin";
constexpr int32_t kTokenBytesMax = 1 << 20;  // no token stands for more text than this

bool IsBin(const std::string& path) {
  return path.size() > sizeof(kBin) - 1 &&
         path.compare(path.size() - (sizeof(kBin) - 1), sizeof(kBin) - 1, kBin) == 0;
}

Status Bad(const std::string& path, const std::string& why) {
  return Status(StatusCode::kInvalidData, "sidecar " + path + ": " + why +
                                              "; correct it, or remove it to train without bits "
                                              "per byte");
}

// A whole number from `low` up, or -1.
int64_t Number(const nlohmann::json& json, const char* key, int64_t low) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_integer()) return -1;
  const auto value = found->get<int64_t>();
  return value >= low && value <= INT32_MAX ? value : -1;
}

// Bytes of each token, [vocab_size of the model].
Status ReadSidecar(const std::string& path, int64_t vocab_size, std::vector<int32_t>* bytes) {
  constexpr std::uintmax_t kSidecarBytesMax = std::uintmax_t{64} << 20;  // 1 M tokens are 4 MB
  std::error_code error;
  // The shard's own path is canonical; a link here could still lead out of the data roots.
  if (std::filesystem::is_symlink(path, error)) return Bad(path, "is a symbolic link");
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size > kSidecarBytesMax) return Bad(path, "is not a file of at most 64 MiB");
  std::ifstream file(path, std::ios::binary);
  const nlohmann::json json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Bad(path, "is not a JSON object");
  const int64_t vocab = Number(json, "vocab_size", 1);
  if (vocab < 0) return Bad(path, "has no vocab_size");
  if (vocab > vocab_size) {
    return Bad(path, "has a vocab_size of " + std::to_string(vocab) +
                         ", more than model.vocab_size, which is " + std::to_string(vocab_size));
  }
  const int64_t bos = Number(json, "bos_id", 0);
  if (json.contains("bos_id") && (bos < 0 || bos >= vocab)) {
    return Bad(path, "has a bos_id that is not a token");
  }
  const auto list = json.find("bytes_per_token");
  if (list == json.end() || !list->is_array() || static_cast<int64_t>(list->size()) != vocab) {
    return Bad(path, "must have a bytes_per_token of vocab_size numbers");
  }
  bytes->assign(static_cast<size_t>(vocab_size), 0);
  for (size_t i = 0; i < list->size(); ++i) {
    const nlohmann::json& item = (*list)[i];
    if (!item.is_number_unsigned() || item.get<uint64_t>() > uint64_t{kTokenBytesMax}) {
      return Bad(path, "has an impossible bytes_per_token[" + std::to_string(i) + "]");
    }
    (*bytes)[i] = item.get<int32_t>();
  }
  return Status();
}

}  // namespace

Status ReadSidecars(const std::vector<ResolvedFile>& files, DatasetOptions* options) {
  options->bytes_per_token.reset();
  std::vector<int32_t> first;
  std::string first_path;
  for (const ResolvedFile& file : files) {
    if (!IsBin(file.path)) return Status();
    const std::string path = file.path.substr(0, file.path.size() - 4) + ".json";
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return Status();
    std::vector<int32_t> bytes;
    if (Status status = ReadSidecar(path, options->vocab_size, &bytes); !status.ok()) {
      return status;
    }
    if (!first_path.empty() && bytes != first) {
      return Bad(path, "differs from " + first_path + ", but one job has one vocabulary");
    }
    if (first_path.empty()) {
      first = std::move(bytes);
      first_path = path;
    }
  }
  if (!first_path.empty()) options->bytes_per_token = std::move(first);
  return Status();
}

}  // namespace sinkforge::trainer
