// Bytes: a piece is as long as whoever asks wants it.
#include "tokenizer/byte_tokenizer.h"

#include <array>

#include "base/check.h"

namespace sinkforge::tokenizer {
namespace {

constexpr char kBosContent[] = "<|bos|>";

class ByteEncoder final : public Encoder {
 public:
  size_t EncodeRange(const TextRange& range, std::vector<int32_t>* ids,
                     std::vector<PieceMark>* marks) override {
    if (marks != nullptr) marks->push_back({range.begin, ids->size()});
    for (size_t i = range.begin; i < range.end; ++i) {
      ids->push_back(static_cast<unsigned char>(range.text[i]));
    }
    return range.end;
  }
};

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<char>(i);
  }
  int64_t vocab_size() const override { return kByteBos + 1; }
  std::optional<int32_t> bos_id() const override { return kByteBos; }
  std::optional<int32_t> FindToken(std::string_view content) const override {
    if (content == kBosContent) return kByteBos;
    if (content.size() != 1) return std::nullopt;
    return static_cast<unsigned char>(content[0]);
  }
  std::string_view TokenBytes(int32_t id) const override {
    SINKFORGE_REQUIRE(id >= 0 && id <= kByteBos);
    if (id == kByteBos) return kBosContent;
    return {&bytes_[static_cast<size_t>(id)], 1};
  }
  bool IsSpecial(int32_t id) const override { return id == kByteBos; }
  std::string fingerprint() const override { return kBytesName; }
  PreparedText Prepare(std::string_view document) const override {
    PreparedText prepared;
    if (!document.empty()) prepared.segments.push_back({std::nullopt, document});
    return prepared;
  }
  std::unique_ptr<Encoder> MakeEncoder() const override { return std::make_unique<ByteEncoder>(); }
  bool memoryless() const override { return true; }

 private:
  std::array<char, 256> bytes_{};
};

}  // namespace

std::unique_ptr<const Tokenizer> MakeByteTokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace sinkforge::tokenizer
