// BatchReader: this rank's share of the rows of global batches, from a data set to host memory.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/trainer/core/dataset.h"

namespace sinkforge::trainer {

// Which rows of which ranks: rank `rank` takes its contiguous share (ShareOf) of a batch.
struct BatchLayout {
  int64_t sequence = 0;
  int64_t rows_max = 0;  // of a global batch
  int64_t rank = 0;
  int64_t world_size = 1;
};

// Owned by the trainer, which is its only user. Its buffers are allocated once.
class BatchReader {
 public:
  explicit BatchReader(const BatchLayout& layout);

  // The share of training batch rows [first, first + rows_max) of the shuffled order. Returns the
  // number of rows read.
  int64_t ReadShuffled(const Dataset& data, uint64_t seed, int64_t first);
  // The share of `rows` consecutive rows from row `first` in the text's own order. The targets end
  // with the `targets`-th of the stream: what is missing of the last row is padded with target -1.
  int64_t ReadInOrder(const TokenStream& data, int64_t first, int64_t rows, int64_t targets);

  const int32_t* inputs() const { return inputs_.data(); }
  const int32_t* targets() const { return targets_.data(); }

 private:
  BatchLayout layout_;
  std::vector<int32_t> inputs_;   // [rows of the largest share, sequence]
  std::vector<int32_t> targets_;  // [rows of the largest share, sequence]
};

}  // namespace sinkforge::trainer
