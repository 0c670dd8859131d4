// The tokenizer `bytes`: ids 0 to 255 are the bytes themselves, 256 begins a document. Text files
// that a job reads directly have no 256; shards made by `sinkforge tokenize` have.
#pragma once

#include <memory>

#include "tokenizer/tokenizer.h"

namespace sinkforge::tokenizer {

// In job files and on command lines; also the fingerprint.
inline constexpr char kBytesName[] = "bytes";
inline constexpr int32_t kByteBos = 256;

std::unique_ptr<const Tokenizer> MakeByteTokenizer();

}  // namespace sinkforge::tokenizer
