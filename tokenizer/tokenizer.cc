// What every tokenizer does alike.
#include "tokenizer/tokenizer.h"

#include "absl/strings/str_cat.h"
#include "tokenizer/unicode.h"

namespace sinkforge::tokenizer {

absl::StatusOr<std::vector<int32_t>> EncodeDocument(const Tokenizer& tokenizer,
                                                    std::string_view document, Encoder* encoder) {
  if (!IsValidUtf8(document)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "byte ", FirstInvalidUtf8(document), " of the text is not UTF-8; convert it to UTF-8"));
  }
  std::vector<int32_t> ids;
  const PreparedText prepared = tokenizer.Prepare(document);
  for (const Segment& segment : prepared.segments) {
    if (segment.token.has_value()) {
      ids.push_back(*segment.token);
    } else {
      encoder->EncodeRange({segment.text, 0, segment.text.size()}, &ids, nullptr);
    }
  }
  return ids;
}

std::vector<int32_t> BytesPerToken(const Tokenizer& tokenizer) {
  std::vector<int32_t> bytes;
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    bytes.push_back(
        tokenizer.IsSpecial(token) ? 0 : static_cast<int32_t>(tokenizer.TokenBytes(token).size()));
  }
  return bytes;
}

}  // namespace sinkforge::tokenizer
