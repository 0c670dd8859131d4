// LossSums: the loss of a text and its bits per byte, from the losses of its targets. Training's
// evaluation and `evaluate` take both from here, so that their figures mean the same.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>
#include <span>
#include <vector>

#include "worker/trainer/core/token_stream.h"

namespace sinkforge::trainer {

struct Evaluation {
  double loss = 0;                      // nats per token
  std::optional<double> bits_per_byte;  // nats / (ln 2 * bytes) of the targets that have bytes
  int64_t tokens = 0;
};

// Numbers that ranks may add up.
struct LossSums {
  double nats = 0;
  double bytes = 0;  // that the targets stand for; 0 where that is not known
  double targets = 0;
  // Of the targets that stand for no bytes: what begins a document is no text, and predicting it no
  // part of predicting the text.
  double silent_nats = 0;

  // A batch of `text` whose losses have the sum `batch_nats`. A target of -1 does not count.
  // `read_losses` fills a std::vector<double> with the loss of every target; it is asked only where
  // one stands for no bytes.
  template <typename ReadLosses>
  void Add(const TokenStream& text, std::span<const int32_t> batch_targets, double batch_nats,
           const ReadLosses& read_losses) {
    nats += batch_nats;
    std::vector<double> losses;
    for (size_t i = 0; i < batch_targets.size(); ++i) {
      if (batch_targets[i] < 0) continue;
      targets += 1;
      const std::optional<int64_t> stands_for = text.TokenBytes(batch_targets[i]);
      bytes += static_cast<double>(stands_for.value_or(0));
      if (stands_for != 0) continue;
      if (losses.empty()) read_losses(&losses);
      silent_nats += losses[i];
    }
  }

  Evaluation Result() const {
    Evaluation evaluation;
    evaluation.tokens = static_cast<int64_t>(targets);
    evaluation.loss = nats / targets;
    if (bytes > 0) evaluation.bits_per_byte = (nats - silent_nats) / (std::numbers::ln2 * bytes);
    return evaluation;
  }
};

}  // namespace sinkforge::trainer
