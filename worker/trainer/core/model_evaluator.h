// ModelEvaluator: what a model makes of text that it was not trained on: the loss of a whole text,
// the log-likelihoods of the ends of sequences, and how much its heads do there. Training's forward
// over batches; no position is padded, so that every one that the model reads counts in Eq. 5.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/head_balance.h"
#include "kernels/status.h"
#include "worker/trainer/core/loss_sums.h"
#include "worker/trainer/core/model.h"
#include "worker/trainer/core/token_stream.h"

namespace sinkforge::trainer {

struct TextEvaluation {
  Evaluation loss;
  int64_t bytes = 0;             // that the targets stand for; 0: not known
  kernels::HeadBalance balance;  // importance, layer_cv and imbalance over the text's positions
};

// Tokens of which the last `scored` are predicted from all before them: 1 <= scored < tokens.size()
// <= context + 1.
struct ScoredSequence {
  std::vector<int32_t> tokens;
  int64_t scored = 0;
};

struct SequenceScores {
  std::vector<double> log_likelihoods;  // nats, of the scored tokens together; as the sequences
  int64_t positions = 0;                // that the model read
  kernels::HeadBalance balance;         // over those positions
};

// Positions done of all.
using OnEvaluated = std::function<void(int64_t done, int64_t total)>;

// The model, planned for one row of `context` positions at least, outlives it. One thread.
class ModelEvaluator {
 public:
  struct Limits {
    int64_t context = 0;        // positions of a row at most
    int64_t positions_max = 0;  // of a batch: what the model was planned for
  };
  ModelEvaluator(const Limits& limits, Model* model);

  // Every token but the first, once, in rows of `context` targets that follow one another: a token
  // is predicted from those before it in its row, the last row may be shorter. That is training's
  // evaluation of all its validation text (evaluation.tokens: 0). The text has two tokens at least,
  // all in the model's vocabulary. kNonFinite: the loss is not finite.
  kernels::Result<TextEvaluation> EvaluateText(const TokenStream& text,
                                               const OnEvaluated& on_evaluated);

  // Sequences of one length share batches. Which do changes nothing beyond rounding. kNonFinite.
  kernels::Result<SequenceScores> ScoreSequences(std::span<const ScoredSequence> sequences,
                                                 const OnEvaluated& on_evaluated);

 private:
  struct HeadUse {
    std::vector<double> gate_sums;  // [layers, heads]
    int64_t positions = 0;
  };
  void RunForward(const BatchShape& shape, const int32_t* inputs, const int32_t* targets,
                  HeadUse* use);
  HeadUse NoUse() const;
  kernels::HeadBalance BalanceOf(const HeadUse& use) const;
  void ScoreBatch(std::span<const ScoredSequence> sequences, std::span<const size_t> batch,
                  HeadUse* use, std::vector<double>* log_likelihoods);

  Limits limits_;
  Model* model_;
  std::vector<double> batch_sums_;
  std::vector<int32_t> inputs_, targets_;
  std::vector<double> losses_;
};

}  // namespace sinkforge::trainer
