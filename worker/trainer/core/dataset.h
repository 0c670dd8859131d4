// Dataset: token files as one flat stream, cut into rows, read at exact positions. Owned by the
// outer trainer, read by one thread. Files are mapped, not loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "worker/trainer/core/token_stream.h"

namespace sinkforge::trainer {

// One file, already resolved under a data root. Text files give one token per byte. `.bin` files
// are llm.c's: 256 little-endian int32 {20240520, 1, n} then uint16, or {20240801, 7, n} then
// uint32.
struct DataFile {
  std::string path;
};

struct DatasetOptions {
  int64_t vocab_size = 256;
  int64_t sequence_length = 256;
  // `.bin` only: bytes that each token id stands for, [vocab_size] at least, 0 for specials. The
  // outer trainer reads it from the sidecar "<file minus .bin>.json". Absent: unknown.
  std::optional<std::vector<int32_t>> bytes_per_token;
};

class Dataset : public TokenStream {
 public:
  // kNotFound (missing file), kFailedPrecondition (it may not be read), kInvalidData: no file,
  // empty file, truncated or foreign .bin, text beside .bin, a token id outside the vocabulary
  // (file and position named), fewer tokens than one row of sequence_length + 1, too short a
  // bytes_per_token. Every token is checked at opening. The files must not shrink while they are
  // open.
  static kernels::Result<std::unique_ptr<Dataset>> Open(const std::vector<DataFile>& files,
                                                        const DatasetOptions& options);

  // Rows of sequence_length targets: row r covers tokens [r*T, r*T + T], so that neighbours share
  // one token.
  virtual int64_t rows() const = 0;
  // Row `r` of the stream's order: inputs and targets, [T] each.
  virtual void ReadRow(int64_t row, int32_t* inputs, int32_t* targets) const = 0;
  // The row that stands at position `index` of the endless shuffled order: every epoch is another
  // permutation of all rows, a function of (seed, epoch) alone.
  virtual int64_t ShuffledRow(uint64_t seed, int64_t index) const = 0;
};

}  // namespace sinkforge::trainer
