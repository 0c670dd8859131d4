// TokenFile: header, check and reading.
#include "worker/trainer/core/token_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

constexpr int64_t kHeaderInts = 256;
constexpr int64_t kHeaderBytes = kHeaderInts * 4;
constexpr int32_t kMagic16 = 20240520;
constexpr int32_t kVersion16 = 1;
constexpr int32_t kMagic32 = 20240801;
constexpr int32_t kVersion32 = 7;
constexpr int32_t kMagicEvaluation = 20240522;

template <typename T>
void Widen(const std::byte* from, int64_t count, int32_t* to) {
  for (int64_t i = 0; i < count; ++i) {
    T token;
    std::memcpy(&token, from + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    to[i] = static_cast<int32_t>(token);
  }
}

// Position of the first token that is `limit` or more; -1: none.
template <typename T>
int64_t FirstOutside(const std::byte* data, int64_t count, int64_t limit) {
  // The maximum of a block vectorises; a search does not.
  constexpr int64_t kBlock = 4096;
  for (int64_t start = 0; start < count; start += kBlock) {
    const int64_t end = std::min(start + kBlock, count);
    T largest = 0;
    for (int64_t i = start; i < end; ++i) {
      T token;
      std::memcpy(&token, data + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
      largest = std::max(largest, token);
    }
    if (static_cast<int64_t>(largest) < limit) continue;
    for (int64_t i = start; i < end; ++i) {
      T token;
      std::memcpy(&token, data + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
      if (static_cast<int64_t>(token) >= limit) return i;
    }
  }
  return -1;
}

Status Bad(const std::string& path, const std::string& what) {
  return Status(StatusCode::kInvalidData, path + ": " + what);
}

}  // namespace

TokenFormat FormatOf(const std::string& path) {
  constexpr std::string_view kSuffix = ".bin";
  return path.size() >= kSuffix.size() &&
                 path.compare(path.size() - kSuffix.size(), kSuffix.size(), kSuffix) == 0
             ? TokenFormat::kBin
             : TokenFormat::kText;
}

TokenFile::TokenFile(std::string path, std::unique_ptr<MappedFile> file)
    : path_(std::move(path)), file_(std::move(file)) {}

Result<std::unique_ptr<TokenFile>> TokenFile::Open(const std::string& path, int64_t vocab_size) {
  Result<std::unique_ptr<MappedFile>> mapped = MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  std::unique_ptr<TokenFile> file(new TokenFile(path, std::move(mapped).value()));
  if (FormatOf(path) == TokenFormat::kBin) {
    if (Status status = file->ReadHeader(); !status.ok()) return status;
  } else {
    file->tokens_ = file->file_->size();
  }
  if (Status status = file->CheckTokens(vocab_size); !status.ok()) return status;
  return file;
}

Status TokenFile::ReadHeader() {
  if (file_->size() < kHeaderBytes) {
    return Bad(path_, "truncated: " + std::to_string(file_->size()) +
                          " bytes, less than a header of " + std::to_string(kHeaderBytes) +
                          "; make the shard again");
  }
  int32_t header[3];
  std::memcpy(header, file_->data(), sizeof(header));
  if (header[0] == kMagicEvaluation) {
    return Bad(path_, "an evaluation shard of llm.c, not a token shard; name a token shard");
  }
  if (header[0] == kMagic16 && header[1] == kVersion16) {
    width_bytes_ = 2;
  } else if (header[0] == kMagic32 && header[1] == kVersion32) {
    width_bytes_ = 4;
  } else {
    return Bad(path_, "not a token shard: it begins with {" + std::to_string(header[0]) + ", " +
                          std::to_string(header[1]) +
                          "} where {20240520, 1} (uint16) or {20240801, 7} (uint32) is expected");
  }
  offset_bytes_ = kHeaderBytes;
  tokens_ = header[2];
  if (tokens_ <= 0) {
    return Bad(path_,
               "its header counts " + std::to_string(tokens_) + " tokens; make the shard again");
  }
  const int64_t expected = kHeaderBytes + tokens_ * width_bytes_;
  if (file_->size() != expected) {
    const char* what = file_->size() < expected ? "truncated: " : "foreign: ";
    return Bad(path_, what + std::to_string(file_->size()) + " bytes where its header's " +
                          std::to_string(tokens_) + " tokens need " + std::to_string(expected) +
                          "; make the shard again");
  }
  return Status();
}

Status TokenFile::CheckTokens(int64_t vocab_size) const {
  const std::byte* data = file_->data() + offset_bytes_;
  const int64_t position = width_bytes_ == 1   ? FirstOutside<uint8_t>(data, tokens_, vocab_size)
                           : width_bytes_ == 2 ? FirstOutside<uint16_t>(data, tokens_, vocab_size)
                                               : FirstOutside<uint32_t>(data, tokens_, vocab_size);
  if (position < 0) return Status();
  uint32_t token = 0;
  std::memcpy(&token, data + position * width_bytes_, static_cast<size_t>(width_bytes_));
  return Bad(path_, "token " + std::to_string(token) + " at position " + std::to_string(position) +
                        " is outside the vocabulary of " + std::to_string(vocab_size) +
                        "; raise model.vocab_size or use the tokenizer the data was made with");
}

void TokenFile::Read(int64_t first, int64_t count, int32_t* tokens) const {
  SINKFORGE_CHECK(first >= 0 && count >= 0 && first + count <= tokens_);
  const std::byte* from = file_->data() + offset_bytes_ + first * width_bytes_;
  switch (width_bytes_) {
    case 1:
      return Widen<uint8_t>(from, count, tokens);
    case 2:
      return Widen<uint16_t>(from, count, tokens);
    default:
      return Widen<uint32_t>(from, count, tokens);
  }
}

}  // namespace sinkforge::trainer
