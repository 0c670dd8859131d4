// The byte-level BPE of a tokenizer.json, equal to the `tokenizers` package without the special
// tokens that it can put around a text.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_file.h"

namespace sinkforge::tokenizer {

// INVALID_ARGUMENT: a byte has no token, or the split pattern cannot be used.
absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeBpeTokenizer(BpeFile file);

}  // namespace sinkforge::tokenizer
