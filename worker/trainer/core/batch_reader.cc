// BatchReader: shuffled rows for training, rows in order for evaluation.
#include "worker/trainer/core/batch_reader.h"

#include <algorithm>

#include "worker/trainer/core/share.h"

namespace sinkforge::trainer {

BatchReader::BatchReader(const BatchLayout& layout) : layout_(layout) {
  const int64_t rows = ShareOf(layout.rows_max, 0, layout.world_size).size;
  inputs_.resize(static_cast<size_t>(rows * layout.sequence));
  targets_.resize(inputs_.size());
}

int64_t BatchReader::ReadShuffled(const Dataset& data, uint64_t seed, int64_t first) {
  const Share share = ShareOf(layout_.rows_max, layout_.rank, layout_.world_size);
  for (int64_t i = 0; i < share.size; ++i) {
    const int64_t row = data.ShuffledRow(seed, first + share.first + i);
    const int64_t at = i * layout_.sequence;
    data.ReadRow(row, inputs_.data() + at, targets_.data() + at);
  }
  return share.size;
}

int64_t BatchReader::ReadInOrder(const TokenStream& data, int64_t first, int64_t rows,
                                 int64_t targets) {
  SINKFORGE_CHECK(rows <= layout_.rows_max);
  const Share share = ShareOf(rows, layout_.rank, layout_.world_size);
  for (int64_t i = 0; i < share.size; ++i) {
    const int64_t start = (first + share.first + i) * layout_.sequence;
    const int64_t count = std::min(layout_.sequence, targets - start);
    int32_t* row_inputs = inputs_.data() + i * layout_.sequence;
    int32_t* row_targets = targets_.data() + i * layout_.sequence;
    data.ReadTokens(start, count, row_inputs);
    data.ReadTokens(start + 1, count, row_targets);
    // Attention is causal, so what stands after the last target changes no loss before it.
    std::fill(row_inputs + count, row_inputs + layout_.sequence, 0);
    std::fill(row_targets + count, row_targets + layout_.sequence, -1);
  }
  return share.size;
}

}  // namespace sinkforge::trainer
