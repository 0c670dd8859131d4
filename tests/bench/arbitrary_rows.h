// ArbitraryRows: tokens without meaning, for benchmarks: the time of a step does not depend on what
// they say.
#pragma once

#include <cstdint>
#include <optional>

#include "worker/trainer/core/dataset.h"

namespace sinkforge::bench {

class ArbitraryRows final : public trainer::Dataset {
 public:
  ArbitraryRows(int64_t sequence, int64_t vocabulary)
      : sequence_(sequence), vocabulary_(static_cast<uint64_t>(vocabulary)) {}
  int64_t tokens() const override { return kRows * sequence_ + 1; }
  int64_t rows() const override { return kRows; }
  void ReadRow(int64_t row, int32_t* inputs, int32_t* targets) const override {
    ReadTokens(row * sequence_, sequence_, inputs);
    ReadTokens(row * sequence_ + 1, sequence_, targets);
  }
  void ReadTokens(int64_t first, int64_t count, int32_t* tokens) const override {
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t mixed = static_cast<uint64_t>(first + i) * 0x9E3779B97F4A7C15ULL;
      tokens[i] = static_cast<int32_t>((mixed >> 32) % vocabulary_);
    }
  }
  std::optional<int64_t> TokenBytes(int32_t) const override { return 1; }
  int64_t ShuffledRow(uint64_t, int64_t index) const override { return index % kRows; }

 private:
  static constexpr int64_t kRows = 1024;
  int64_t sequence_;
  uint64_t vocabulary_;
};

}  // namespace sinkforge::bench
