// Found, loaded, and held against what the model says of its training.
#include "worker/trainer/model_tokenizer.h"

#include <cstdio>
#include <filesystem>
#include <utility>

#include "tokenizer/byte_tokenizer.h"
#include "tokenizer/load.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

std::string NameOf(const ExportedModel& model, const std::string& chosen) {
  if (!chosen.empty()) return chosen;
  const std::string& of_job = model.spec.data().tokenizer();
  if (of_job == tokenizer::kBytesName) return of_job;
  const auto beside = std::filesystem::path(model.path).parent_path() / "tokenizer.json";
  std::error_code error;
  return std::filesystem::exists(beside, error) ? beside.string() : of_job;
}

}  // namespace

Result<ModelTokenizer> LoadModelTokenizer(const ExportedModel& model, const std::string& chosen) {
  ModelTokenizer loaded;
  loaded.name = NameOf(model, chosen);
  auto tokenizer = tokenizer::LoadTokenizer(loaded.name);
  if (!tokenizer.ok()) {
    return Status(StatusCode::kInvalidData, std::string(tokenizer.status().message()) +
                                                "; name the job's tokenizer with --tokenizer");
  }
  loaded.tokenizer = *std::move(tokenizer);
  if (!model.tokenizer.empty() && loaded.tokenizer->fingerprint() != model.tokenizer) {
    const std::string other = loaded.name + " is not the tokenizer that the model was trained with";
    if (chosen.empty()) {
      return Status(StatusCode::kInvalidData, other + "; name that one with --tokenizer");
    }
    // Another file may hold the same tokenizer.
    std::fprintf(stderr, "warning: %s: its text may make no sense\n", other.c_str());
  }
  const int64_t model_tokens = model.config.vocab_size;
  // Text that a job reads as bytes has no token that begins documents.
  if (loaded.name == tokenizer::kBytesName && model_tokens == tokenizer::kByteBos) return loaded;
  loaded.bos = loaded.tokenizer->bos_id();
  if (loaded.tokenizer->vocab_size() > model_tokens) {
    return Status(StatusCode::kInvalidData,
                  "tokenizer " + loaded.name + " has " +
                      std::to_string(loaded.tokenizer->vocab_size()) + " tokens, the model " +
                      std::to_string(model_tokens) +
                      "; give the one it was trained with to --tokenizer");
  }
  return loaded;
}

}  // namespace sinkforge::trainer
