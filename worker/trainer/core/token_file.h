// TokenFile: one data file as tokens, checked once and then read at exact positions. Text gives one
// token per byte; `.bin` is llm.c's shard format (dataset.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/status.h"
#include "worker/trainer/core/mapped_file.h"

namespace sinkforge::trainer {

enum class TokenFormat { kText, kBin };

// By the name: ".bin" ends a token shard's.
TokenFormat FormatOf(const std::string& path);

class TokenFile {
 public:
  // MappedFile's errors; kInvalidData: truncated or foreign `.bin`, a token id of vocab_size or
  // more (its position is named).
  static kernels::Result<std::unique_ptr<TokenFile>> Open(const std::string& path,
                                                          int64_t vocab_size);
  int64_t tokens() const { return tokens_; }
  // Tokens [first, first + count) of the file.
  void Read(int64_t first, int64_t count, int32_t* tokens) const;

 private:
  TokenFile(std::string path, std::unique_ptr<MappedFile> file);
  kernels::Status ReadHeader();
  kernels::Status CheckTokens(int64_t vocab_size) const;

  std::string path_;
  std::unique_ptr<MappedFile> file_;
  int64_t offset_bytes_ = 0;
  int64_t width_bytes_ = 1;  // of a token: 1 (text), 2 or 4
  int64_t tokens_ = 0;
};

}  // namespace sinkforge::trainer
