// Sidecars of .bin shards: without one, bits per byte are absent, not wrong. They also say which
// tokenizer made the shards.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

#include "tokenizer/byte_tokenizer.h"
#include "tokenizer/tokenizer_file.h"
#include "worker/trainer/data_files.h"

namespace sinkforge::trainer {

using kernels::Status;
using kernels::StatusCode;
using tokenizer::kBytesName;

namespace {

constexpr char kBin[] = ".bin";
constexpr int32_t kTokenBytesMax = 1 << 20;  // no token stands for more text than this

bool IsBin(const std::string& path) {
  return path.size() > sizeof(kBin) - 1 &&
         path.compare(path.size() - (sizeof(kBin) - 1), sizeof(kBin) - 1, kBin) == 0;
}

Status Bad(const std::string& path, const std::string& why,
           const std::string& next = "correct it, or remove it to train without bits per byte") {
  return Status(StatusCode::kInvalidData, "sidecar " + path + ": " + why + "; " + next);
}

std::string SidecarPath(const std::string& bin) { return bin.substr(0, bin.size() - 4) + ".json"; }

// A whole number from `low` up, or -1.
int64_t Number(const nlohmann::json& json, const char* key, int64_t low) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_integer()) return -1;
  const auto value = found->get<int64_t>();
  return value >= low && value <= INT32_MAX ? value : -1;
}

struct Sidecar {
  std::vector<int32_t> bytes_per_token;  // [vocab_size of the model]
  std::string tokenizer;                 // fingerprint; empty: not named
};

Status ReadSidecar(const std::string& path, int64_t vocab_size, Sidecar* sidecar) {
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
    return Bad(path,
               "has a vocab_size of " + std::to_string(vocab) +
                   ", more than model.vocab_size, which is " + std::to_string(vocab_size),
               "give model.vocab_size at least as many");
  }
  const int64_t bos = Number(json, "bos_id", 0);
  if (json.contains("bos_id") && (bos < 0 || bos >= vocab)) {
    return Bad(path, "has a bos_id that is not a token");
  }
  const auto list = json.find("bytes_per_token");
  if (list == json.end() || !list->is_array() || static_cast<int64_t>(list->size()) != vocab) {
    return Bad(path, "must have a bytes_per_token of vocab_size numbers");
  }
  const auto tokenizer = json.find("tokenizer");
  if (tokenizer != json.end() && !tokenizer->is_string()) {
    return Bad(path, "has a tokenizer that is not a string");
  }
  if (tokenizer != json.end()) sidecar->tokenizer = tokenizer->get<std::string>();
  sidecar->bytes_per_token.assign(static_cast<size_t>(vocab_size), 0);
  for (size_t i = 0; i < list->size(); ++i) {
    const nlohmann::json& item = (*list)[i];
    if (!item.is_number_unsigned() || item.get<uint64_t>() > uint64_t{kTokenBytesMax}) {
      return Bad(path, "has an impossible bytes_per_token[" + std::to_string(i) + "]");
    }
    sidecar->bytes_per_token[i] = item.get<int32_t>();
  }
  return Status();
}

}  // namespace

Status ReadSidecars(const std::vector<ResolvedFile>& files, DatasetOptions* options,
                    DataTokenizer* tokenizer) {
  options->bytes_per_token.reset();
  *tokenizer = {};
  Sidecar first;
  std::string first_path;
  for (const ResolvedFile& file : files) {
    if (!IsBin(file.path)) {
      *tokenizer = {kBytesName, ""};
      return Status();
    }
    const std::string path = SidecarPath(file.path);
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return Status();
    Sidecar sidecar;
    if (Status status = ReadSidecar(path, options->vocab_size, &sidecar); !status.ok()) {
      return status;
    }
    if (!first_path.empty() && (sidecar.bytes_per_token != first.bytes_per_token ||
                                sidecar.tokenizer != first.tokenizer)) {
      return Bad(path, "differs from " + first_path + ", but one job has one vocabulary",
                 "tokenize all text of a job with one tokenizer (`sinkforge tokenize`)");
    }
    if (first_path.empty()) {
      first = std::move(sidecar);
      first_path = path;
    }
  }
  if (first_path.empty()) return Status();
  options->bytes_per_token = std::move(first.bytes_per_token);
  *tokenizer = {first.tokenizer, first_path};
  return Status();
}

std::vector<ResolvedFile> SidecarsOf(const std::vector<ResolvedFile>& files) {
  std::vector<ResolvedFile> sidecars;
  for (const ResolvedFile& file : files) {
    if (!IsBin(file.path)) continue;
    const std::string path = SidecarPath(file.path);
    std::error_code error;
    if (!std::filesystem::exists(path, error)) continue;
    sidecars.push_back({path, SidecarPath(file.name), file.given + "'s sidecar"});
  }
  return sidecars;
}

namespace {

Status CheckAgainst(const std::string& fingerprint, const TokenizerClaim& claim) {
  const bool bytes = claim.job_tokenizer == kBytesName;
  for (const auto& [data, field, present] :
       {std::tuple(&claim.train, "data.train", true),
        std::tuple(&claim.validation, "data.validation", claim.has_validation)}) {
    if (!present || data->fingerprint == fingerprint) continue;
    if (bytes && data->fingerprint.empty()) continue;
    const std::string made =
        data->fingerprint.empty() ? "not every file is a .bin whose sidecar names its tokenizer"
        : data->named_by.empty()  ? "it is text, which is read as bytes"
                                  : "made with another tokenizer, as " + data->named_by + " says";
    return Status(StatusCode::kInvalidData,
                  std::string(field) + ": " + made + ", but data.tokenizer is " +
                      claim.job_tokenizer +
                      (bytes ? "; give data.tokenizer the tokenizer.json that made the shards"
                             : "; tokenize the text with it: `sinkforge tokenize --tokenizer`"));
  }
  return Status();
}

}  // namespace

Status CheckTokenizer(const TokenizerClaim& claim) {
  if (claim.job_tokenizer == kBytesName) return CheckAgainst(kBytesName, claim);
  auto files = ResolveDataFiles({claim.job_tokenizer}, {claim.roots, "data.tokenizer"});
  if (!files.ok()) return files.status();
  const auto digests = DigestFiles(files.value());
  if (!digests.ok()) return digests.status();
  return CheckAgainst(tokenizer::FingerprintOf(digests.value()[0].xxh3), claim);
}

}  // namespace sinkforge::trainer
