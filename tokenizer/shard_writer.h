// ShardWriter: a stream of token ids as llm.c's token shards, "shard-00000.bin" and so on, each
// with its sidecar "shard-00000.json".
//
// A shard has 256 little-endian int32, {20240520, 1, n} and zeros, then n uint16; where ids need
// more than 16 bits, {20240801, 7, n} and n uint32. The sidecar is {"vocab_size", "bos_id",
// "bytes_per_token": [...], "tokenizer"}; `tokenizer` is the fingerprint by which files of one
// tokenizer are known.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tokenizer/tokenizer.h"

namespace sinkforge::tokenizer {

struct ShardOptions {
  std::string folder;
  int64_t tokens_max = 100'000'000;  // of one shard; below 2^31
  int32_t bos_id = 0;
};

// Used by one thread. The tokenizer must outlive it.
class ShardWriter {
 public:
  ShardWriter(const Tokenizer& tokenizer, ShardOptions options);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // RESOURCE_EXHAUSTED: the disk is full; UNAVAILABLE: the system refused otherwise.
  absl::Status Append(std::span<const int32_t> ids);
  // Ends the last shard. Every file is synced then.
  absl::Status Finish();
  int64_t shards() const { return shards_; }

 private:
  absl::Status Open();
  absl::Status Close();
  absl::Status Flush();
  std::string PathOf(const char* suffix) const;

  ShardOptions options_;
  bool wide_;  // uint32
  std::string sidecar_;
  int64_t shards_ = 0;  // begun
  int fd_ = -1;
  int64_t tokens_ = 0;  // of the open shard
  std::string buffer_;
};

}  // namespace sinkforge::tokenizer
