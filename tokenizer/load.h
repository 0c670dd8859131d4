// Tokenizers by the name that job files and command lines give them.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tokenizer/tokenizer.h"

namespace sinkforge::tokenizer {

// `name`: "bytes", a tokenizer.json, or a folder that holds one. NOT_FOUND: there is no such file;
// INVALID_ARGUMENT: it cannot be used. Every message names the file.
absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadTokenizer(const std::string& name);

// The file that LoadTokenizer reads for a name other than "bytes".
std::string TokenizerPath(const std::string& name);

}  // namespace sinkforge::tokenizer
