// Dataset: token files joined to one stream, and the shuffled order of its rows.
#include "worker/trainer/core/dataset.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "worker/trainer/core/random.h"
#include "worker/trainer/core/token_file.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

// All rows in the order of one epoch: a Fisher-Yates shuffle of (seed, epoch).
class EpochOrder {
 public:
  explicit EpochOrder(int64_t rows) : rows_(rows) {}

  int64_t At(uint64_t seed, int64_t epoch, int64_t index) {
    if (epoch != epoch_ || seed != seed_) Shuffle(seed, epoch);
    return order_[static_cast<size_t>(index)];
  }

 private:
  void Shuffle(uint64_t seed, int64_t epoch) {
    const RandomStream stream(seed, "order of the rows");
    const auto rows = static_cast<uint64_t>(rows_);
    order_.resize(rows);  // The first time only; a validation text is never shuffled.
    std::iota(order_.begin(), order_.end(), int64_t{0});
    for (uint64_t i = rows - 1; i > 0; --i) {
      // The remainder's bias is (i + 1) / 2^64: nothing.
      const uint64_t index = static_cast<uint64_t>(epoch) * rows + i;
      std::swap(order_[i], order_[stream.Bits(index) % (i + 1)]);
    }
    seed_ = seed;
    epoch_ = epoch;
  }

  int64_t rows_;
  std::vector<int64_t> order_;
  uint64_t seed_ = 0;
  int64_t epoch_ = -1;
};

class TokenDataset final : public Dataset {
 public:
  TokenDataset(DatasetOptions options, TokenFormat format,
               std::vector<std::unique_ptr<TokenFile>> files)
      : options_(std::move(options)), format_(format), files_(std::move(files)) {
    for (const auto& file : files_) {
      starts_.push_back(tokens_);
      tokens_ += file->tokens();
    }
    order_ = EpochOrder(rows());
  }

  int64_t tokens() const override { return tokens_; }
  int64_t rows() const override { return (tokens_ - 1) / options_.sequence_length; }

  void ReadRow(int64_t row, int32_t* inputs, int32_t* targets) const override {
    SINKFORGE_CHECK(row >= 0 && row < rows());
    const int64_t first = row * options_.sequence_length;
    ReadTokens(first, options_.sequence_length, inputs);
    ReadTokens(first + 1, options_.sequence_length, targets);
  }

  void ReadTokens(int64_t first, int64_t count, int32_t* tokens) const override {
    SINKFORGE_CHECK(first >= 0 && count >= 0 && first + count <= tokens_);
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), first);
    for (auto file = static_cast<size_t>(after - starts_.begin()) - 1; count > 0; ++file) {
      const int64_t inside = first - starts_[file];
      const int64_t here = std::min(count, files_[file]->tokens() - inside);
      files_[file]->Read(inside, here, tokens);
      tokens += here;
      first += here;
      count -= here;
    }
  }

  std::optional<int64_t> TokenBytes(int32_t token) const override {
    if (format_ == TokenFormat::kText) return 1;
    if (!options_.bytes_per_token.has_value()) return std::nullopt;
    return (*options_.bytes_per_token)[static_cast<size_t>(token)];
  }

  int64_t ShuffledRow(uint64_t seed, int64_t index) const override {
    SINKFORGE_CHECK(index >= 0);
    return order_.At(seed, index / rows(), index % rows());
  }

 private:
  DatasetOptions options_;
  TokenFormat format_;
  std::vector<std::unique_ptr<TokenFile>> files_;
  std::vector<int64_t> starts_;  // of each file, in the stream
  int64_t tokens_ = 0;
  mutable EpochOrder order_{0};  // a cache: what it returns depends on the arguments alone
};

Status Bad(const std::string& message) { return Status(StatusCode::kInvalidData, message); }

}  // namespace

Result<std::unique_ptr<Dataset>> Dataset::Open(const std::vector<DataFile>& files,
                                               const DatasetOptions& options) {
  SINKFORGE_CHECK(options.sequence_length >= 1);
  if (files.empty()) return Bad("no data files; name at least one");
  if (options.bytes_per_token.has_value() &&
      static_cast<int64_t>(options.bytes_per_token->size()) < options.vocab_size) {
    return Bad(files.front().path + ": bytes_per_token names " +
               std::to_string(options.bytes_per_token->size()) + " tokens of a vocabulary of " +
               std::to_string(options.vocab_size) + "; complete the sidecar or remove the list");
  }
  const TokenFormat format = FormatOf(files.front().path);
  std::vector<std::unique_ptr<TokenFile>> opened;
  int64_t tokens = 0;
  for (const DataFile& file : files) {
    if (FormatOf(file.path) != format) {
      return Bad(file.path + " beside " + files.front().path +
                 ": text and .bin do not mix in one data set; convert one of them");
    }
    Result<std::unique_ptr<TokenFile>> result = TokenFile::Open(file.path, options.vocab_size);
    if (!result.ok()) return result.status();
    tokens += result.value()->tokens();
    opened.push_back(std::move(result).value());
  }
  if (tokens < options.sequence_length + 1) {
    return Bad(files.front().path + (files.size() > 1 ? " and the files with it" : "") + ": " +
               std::to_string(tokens) + " tokens are fewer than one row of data.sequence_length " +
               std::to_string(options.sequence_length) +
               " needs (one more than its length); shorten the sequence or add text");
  }
  return std::unique_ptr<Dataset>(
      std::make_unique<TokenDataset>(options, format, std::move(opened)));
}

}  // namespace sinkforge::trainer
