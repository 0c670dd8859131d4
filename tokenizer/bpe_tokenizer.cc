// Text -> added tokens -> NFC -> pieces -> cache or merges -> ids.
#include "tokenizer/bpe_tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/split_pattern.h"
#include "tokenizer/unicode.h"

namespace sinkforge::tokenizer {
namespace {

struct BpeData {
  std::unique_ptr<const SplitPattern> pattern;  // null: a text is one piece
  std::unique_ptr<const MergeTable> merges;
  // Whole pieces that are tokens; filled only where the file says `ignore_merges`.
  std::unordered_map<std::string, int32_t> whole_pieces;
};

class BpeEncoder final : public Encoder {
 public:
  explicit BpeEncoder(const BpeData& data) : data_(data) {
    if (data.pattern != nullptr) splitter_ = std::make_unique<Splitter>(*data.pattern);
  }

  size_t EncodeRange(const TextRange& range, std::vector<int32_t>* ids,
                     std::vector<PieceMark>* marks) override {
    size_t at = range.begin;
    while (at < range.end) {
      if (marks != nullptr) marks->push_back({at, ids->size()});
      const size_t end =
          splitter_ == nullptr ? range.text.size() : splitter_->PieceEnd(range.text, at);
      EncodePiece(range.text.substr(at, end - at), ids);
      at = end;
    }
    return at;
  }

 private:
  void EncodePiece(std::string_view piece, std::vector<int32_t>* ids) {
    if (cache_.Find(piece, ids)) return;
    const size_t before = ids->size();
    const auto whole = data_.whole_pieces.empty() ? data_.whole_pieces.end()
                                                  : data_.whole_pieces.find(std::string(piece));
    if (whole != data_.whole_pieces.end()) {
      ids->push_back(whole->second);
    } else {
      data_.merges->Encode(piece, &scratch_, ids);
    }
    cache_.Add(piece, {ids->data() + before, ids->size() - before});
  }

  const BpeData& data_;
  std::unique_ptr<Splitter> splitter_;
  PieceCache cache_;
  MergeScratch scratch_;
};

class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(BpeFile file, BpeData data) : file_(std::move(file)), data_(std::move(data)) {
    int32_t largest = -1;
    for (const auto& [token, id] : file_.vocab) largest = std::max(largest, id);
    for (const AddedToken& token : file_.added_tokens) largest = std::max(largest, token.id);
    token_bytes_.resize(static_cast<size_t>(largest + 1));
    special_.resize(token_bytes_.size());
    for (const auto& [token, id] : file_.vocab) {
      token_bytes_[static_cast<size_t>(id)] = FromAlphabet(token).value_or(token);
    }
    std::vector<AddedToken> raw;
    std::vector<AddedToken> normalized;
    for (AddedToken token : file_.added_tokens) {
      token_bytes_[static_cast<size_t>(token.id)] = token.content;
      special_[static_cast<size_t>(token.id)] = token.special;
      const bool in_normalized = token.normalized;
      if (in_normalized && file_.nfc) token.content = ToNfc(token.content).value_or(token.content);
      (in_normalized ? normalized : raw).push_back(std::move(token));
    }
    if (!raw.empty()) raw_ = std::make_unique<AddedTokens>(std::move(raw));
    if (!normalized.empty()) normalized_ = std::make_unique<AddedTokens>(std::move(normalized));
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(token_bytes_.size()); }
  std::optional<int32_t> bos_id() const override { return file_.bos_id; }

  std::optional<int32_t> FindToken(std::string_view content) const override {
    for (const AddedToken& token : file_.added_tokens) {
      if (token.content == content) return token.id;
    }
    const auto found = file_.vocab.find(ToAlphabet(content));
    if (found == file_.vocab.end()) return std::nullopt;
    return found->second;
  }

  std::string_view TokenBytes(int32_t id) const override {
    SINKFORGE_REQUIRE(id >= 0 && id < vocab_size());
    return token_bytes_[static_cast<size_t>(id)];
  }
  bool IsSpecial(int32_t id) const override {
    SINKFORGE_REQUIRE(id >= 0 && id < vocab_size());
    return special_[static_cast<size_t>(id)];
  }
  std::string fingerprint() const override { return file_.fingerprint; }
  bool memoryless() const override {
    return data_.pattern != nullptr && data_.pattern->memoryless();
  }

  PreparedText Prepare(std::string_view document) const override {
    PreparedText prepared;
    std::vector<Segment> raw;
    SplitBy(raw_.get(), document, &raw);
    for (const Segment& segment : raw) {
      if (segment.token.has_value()) {
        prepared.segments.push_back(segment);
        continue;
      }
      const size_t first = prepared.segments.size();
      SplitBy(normalized_.get(), Normalize(segment.text, &prepared.storage), &prepared.segments);
      if (!file_.add_prefix_space) continue;
      for (size_t i = first; i < prepared.segments.size(); ++i) {
        Segment& text = prepared.segments[i];
        if (text.token.has_value() || text.text.front() == ' ') continue;
        text.text = prepared.storage.emplace_back(" ").append(text.text);
      }
    }
    return prepared;
  }

  std::unique_ptr<Encoder> MakeEncoder() const override {
    return std::make_unique<BpeEncoder>(data_);
  }

 private:
  static void SplitBy(const AddedTokens* tokens, std::string_view text,
                      std::vector<Segment>* segments) {
    if (tokens != nullptr) {
      tokens->Split(text, segments);
    } else if (!text.empty()) {
      segments->push_back({std::nullopt, text});
    }
  }

  std::string_view Normalize(std::string_view text, std::list<std::string>* storage) const {
    if (!file_.nfc) return text;
    std::optional<std::string> normal = ToNfc(text);
    if (!normal.has_value()) return text;
    return storage->emplace_back(*std::move(normal));
  }

  BpeFile file_;
  BpeData data_;
  std::vector<std::string> token_bytes_;
  std::vector<bool> special_;
  std::unique_ptr<AddedTokens> raw_;         // looked for in the text as it is
  std::unique_ptr<AddedTokens> normalized_;  // in the normalised text
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeBpeTokenizer(BpeFile file) {
  std::array<int32_t, 256> byte_ids{};
  for (size_t byte = 0; byte < byte_ids.size(); ++byte) {
    std::string text;
    AppendUtf8(CharacterOfByte(static_cast<uint8_t>(byte)), &text);
    const auto found = file.vocab.find(text);
    if (found == file.vocab.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("model.vocab has no token for byte ", byte,
                       "; train the tokenizer with the whole byte-level alphabet"));
    }
    byte_ids[byte] = found->second;
  }
  BpeData data;
  if (!file.split_pattern.empty()) {
    auto pattern = SplitPattern::Compile(file.split_pattern);
    if (!pattern.ok()) return pattern.status();
    data.pattern = *std::move(pattern);
  }
  data.merges = std::make_unique<MergeTable>(file.merges, byte_ids);
  if (file.ignore_merges) {
    for (const auto& [token, id] : file.vocab) {
      std::optional<std::string> bytes = FromAlphabet(token);
      if (bytes.has_value()) data.whole_pieces.emplace(*std::move(bytes), id);
    }
  }
  return std::make_unique<BpeTokenizer>(std::move(file), std::move(data));
}

}  // namespace sinkforge::tokenizer
