// Shards and bytes are mapped, other text is tokenized in memory.
#include "worker/trainer/evaluation_text.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "tokenizer/byte_tokenizer.h"
#include "tokenizer/encode_corpus.h"
#include "worker/trainer/core/dataset.h"
#include "worker/trainer/core/token_file.h"
#include "worker/trainer/data_files.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

namespace fs = std::filesystem;

Status Bad(const std::string& message) { return Status(StatusCode::kInvalidData, message); }

// Tokens in memory, of a tokenizer that knows the bytes of each.
class EncodedText final : public TokenStream {
 public:
  EncodedText(std::vector<int32_t> ids, std::vector<int32_t> bytes_per_token)
      : ids_(std::move(ids)), bytes_per_token_(std::move(bytes_per_token)) {}

  int64_t tokens() const override { return static_cast<int64_t>(ids_.size()); }
  void ReadTokens(int64_t first, int64_t count, int32_t* tokens) const override {
    SINKFORGE_CHECK(first >= 0 && count >= 0 && first + count <= this->tokens());
    std::copy_n(ids_.begin() + first, count, tokens);
  }
  std::optional<int64_t> TokenBytes(int32_t token) const override {
    return bytes_per_token_[static_cast<size_t>(token)];
  }

 private:
  std::vector<int32_t> ids_;
  std::vector<int32_t> bytes_per_token_;
};

Result<std::vector<ResolvedFile>> ShardsOf(const std::string& folder) {
  std::vector<ResolvedFile> shards;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (FormatOf(entry.path().string()) != TokenFormat::kBin) continue;
    const std::string name = entry.path().filename().string();
    shards.push_back({entry.path().string(), name, name});
  }
  if (error) return Bad(folder + ": cannot be listed: " + error.message());
  if (shards.empty()) {
    return Bad(folder +
               ": holds no .bin token shards; name a text file, or a folder that "
               "`sinkforge tokenize` wrote");
  }
  std::sort(shards.begin(), shards.end(),
            [](const ResolvedFile& a, const ResolvedFile& b) { return a.path < b.path; });
  return shards;
}

// Shards, or the bytes of a text file.
Result<std::unique_ptr<TokenStream>> OpenFiles(const std::vector<ResolvedFile>& files,
                                               const TextReader& reader) {
  DatasetOptions options;
  options.vocab_size = reader.model->config.vocab_size;
  options.sequence_length = 1;  // a text may be shorter than a row
  DataTokenizer made_by;
  if (Status status = ReadSidecars(files, &options, &made_by); !status.ok()) return status;
  const std::string& known = reader.model->tokenizer;
  const std::string expected = known.empty() ? reader.tokenizer->tokenizer->fingerprint() : known;
  if (!made_by.fingerprint.empty() && made_by.fingerprint != expected) {
    return Bad(files.front().path +
               ": made with another tokenizer than the model was trained with, as " +
               made_by.named_by + " says; tokenize the text with the model's");
  }
  std::vector<DataFile> paths;
  for (const ResolvedFile& file : files) paths.push_back({file.path});
  auto opened = Dataset::Open(paths, options);
  if (!opened.ok()) return opened.status();
  return std::unique_ptr<TokenStream>(std::move(opened).value());
}

Result<std::unique_ptr<TokenStream>> EncodeFile(const std::string& path, const TextReader& reader) {
  if (!reader.tokenizer->bos.has_value()) {
    return Bad(path + ": " + reader.tokenizer->name +
               " has no token that begins a document for this model; " +
               (reader.tokenizer->name == tokenizer::kBytesName
                    ? "give the text as a .txt file"
                    : "tokenize the text with `sinkforge tokenize --bos` and give the shards"));
  }
  const auto status_of = [](const absl::Status& status) {
    return Status(absl::IsNotFound(status) ? StatusCode::kNotFound : StatusCode::kInvalidData,
                  std::string(status.message()));
  };
  const auto files = tokenizer::OpenCorpus({path});
  if (!files.ok()) return status_of(files.status());
  std::vector<int32_t> ids;
  tokenizer::CorpusSink sink;
  sink.append = [&](std::span<const int32_t> more) {
    ids.insert(ids.end(), more.begin(), more.end());
    return absl::OkStatus();
  };
  sink.show = [](const tokenizer::CorpusProgress&) {};
  const tokenizer::Tokenizer& tokenizer = *reader.tokenizer->tokenizer;
  const auto done =
      tokenizer::EncodeCorpus(tokenizer, *files, {reader.threads, *reader.tokenizer->bos}, sink);
  if (!done.ok()) return status_of(done.status());
  if (done->tokens == done->documents) {
    return Bad(path + ": holds no text; give a file with some");
  }
  return std::unique_ptr<TokenStream>(
      std::make_unique<EncodedText>(std::move(ids), tokenizer::BytesPerToken(tokenizer)));
}

}  // namespace

Result<std::unique_ptr<TokenStream>> OpenEvaluationText(const std::string& path,
                                                        const TextReader& reader) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    return Status(StatusCode::kNotFound, path + ": there is no such file or folder");
  }
  if (fs::is_directory(path, error)) {
    const auto shards = ShardsOf(path);
    if (!shards.ok()) return shards.status();
    return OpenFiles(shards.value(), reader);
  }
  const bool is_shard = FormatOf(path) == TokenFormat::kBin;
  const bool is_bytes =
      reader.tokenizer->name == tokenizer::kBytesName && !path.ends_with(".jsonl");
  if (is_shard || is_bytes) return OpenFiles({{path, path, path}}, reader);
  return EncodeFile(path, reader);
}

}  // namespace sinkforge::trainer
