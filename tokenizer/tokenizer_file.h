// The content of a Hugging Face tokenizer.json with a byte-level BPE, checked and in plain structs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/merge_table.h"

namespace sinkforge::tokenizer {

struct BpeFile {
  std::unordered_map<std::string, int32_t> vocab;  // as the file writes tokens (byte_alphabet.h)
  std::vector<Merge> merges;
  std::vector<AddedToken> added_tokens;
  std::string split_pattern;      // empty: a text is one piece
  bool ignore_merges = false;     // a piece that is a token is that token, whatever the merges say
  bool add_prefix_space = false;  // before a text that does not begin with a space
  bool nfc = false;               // normalise to form C
  std::optional<int32_t> bos_id;
  std::string fingerprint;
};

// Of the file with this XXH3 (64 bits): "xxh3:78af5f94892f3950".
std::string FingerprintOf(uint64_t xxh3);

// INVALID_ARGUMENT: it is not such a file, contradicts itself, or uses a feature that is not
// supported; the message names the feature and what is supported. `json` is the whole file.
absl::StatusOr<BpeFile> ParseTokenizerFile(const std::string& json);

}  // namespace sinkforge::tokenizer
