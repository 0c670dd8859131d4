// Tokenizer: text to token ids and back. Two kinds: bytes (byte_tokenizer.h) and the byte-level BPE
// of a Hugging Face tokenizer.json (bpe_tokenizer.h). Immutable once made, so threads share one;
// each thread encodes with an Encoder of its own.
//
// A document is encoded in two stages. Prepare finds the added tokens ("<|endoftext|>") and
// normalises what is between them; that needs the whole document. EncodeRange then cuts such a text
// into pieces and encodes each piece on its own; that can begin anywhere, see `memoryless`.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sinkforge::tokenizer {

// Either a token of its own or a text to encode.
struct Segment {
  std::optional<int32_t> token;
  std::string_view text;
};

struct PreparedText {
  std::vector<Segment> segments;
  std::list<std::string> storage;  // what `segments` point to where normalising changed the text
};

// A piece that begins at byte `position` of the text, and how many ids stand before it.
struct PieceMark {
  size_t position = 0;
  size_t ids_before = 0;
};

struct TextRange {
  std::string_view text;  // of a Segment: valid UTF-8
  size_t begin = 0;       // where a piece begins, or is supposed to
  size_t end = 0;
};

// Used by one thread. Its tokenizer must outlive it.
class Encoder {
 public:
  virtual ~Encoder() = default;
  // Appends the ids of the pieces from range.begin to the first piece's end at or after range.end,
  // and returns that end. `marks` may be null; else it receives every piece.
  virtual size_t EncodeRange(const TextRange& range, std::vector<int32_t>* ids,
                             std::vector<PieceMark>* marks) = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // One more than the largest id.
  virtual int64_t vocab_size() const = 0;
  // The token that begins a document, where the tokenizer names one.
  virtual std::optional<int32_t> bos_id() const = 0;
  // The id of a whole token by its content, such as "<|endoftext|>".
  virtual std::optional<int32_t> FindToken(std::string_view content) const = 0;
  // The bytes that a token stands for in decoded text; empty for an id that no token has.
  virtual std::string_view TokenBytes(int32_t id) const = 0;
  // A special token marks structure; it stands for no text.
  virtual bool IsSpecial(int32_t id) const = 0;
  // What makes ids comparable between files: tokenizers of one fingerprint are the same.
  virtual std::string fingerprint() const = 0;

  // `document` must be valid UTF-8 unless the tokenizer is bytes, and outlive the result.
  virtual PreparedText Prepare(std::string_view document) const = 0;
  virtual std::unique_ptr<Encoder> MakeEncoder() const = 0;
  // True where a piece's end depends on the text from its beginning on only. Then encoding may
  // start anywhere in a text, and is right from the first beginning it shares with the true pieces.
  virtual bool memoryless() const = 0;
};

// The ids of a whole document. INVALID_ARGUMENT: it is not UTF-8; says at which byte.
absl::StatusOr<std::vector<int32_t>> EncodeDocument(const Tokenizer& tokenizer,
                                                    std::string_view document, Encoder* encoder);

// Text bytes of every id, [vocab_size]; 0 for special tokens: what bits per byte divide by.
std::vector<int32_t> BytesPerToken(const Tokenizer& tokenizer);

}  // namespace sinkforge::tokenizer
