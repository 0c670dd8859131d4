// Batches for the model: rows of a text in its order, sequences by their length.
#include "worker/trainer/core/model_evaluator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "worker/trainer/core/batch_reader.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

Status NotFinite(const char* what) {
  return Status(StatusCode::kNonFinite,
                std::string("the ") + what +
                    " is not finite: the model's weights are not, or they overflow; choose an "
                    "earlier checkpoint");
}

int64_t InputsOf(const ScoredSequence& sequence) {
  return static_cast<int64_t>(sequence.tokens.size()) - 1;
}

}  // namespace

ModelEvaluator::ModelEvaluator(const Limits& limits, Model* model)
    : limits_(limits), model_(model) {
  SINKFORGE_CHECK(limits.context >= 1 && limits.positions_max >= limits.context);
  batch_sums_.resize(static_cast<size_t>(model->config().layers * model->config().heads));
}

ModelEvaluator::HeadUse ModelEvaluator::NoUse() const {
  return {std::vector<double>(batch_sums_.size()), 0};
}

void ModelEvaluator::RunForward(const BatchShape& shape, const int32_t* inputs,
                                const int32_t* targets, HeadUse* use) {
  model_->LoadBatch(shape, inputs, targets);
  model_->Forward();
  model_->ReadGateStatistics(batch_sums_, {});
  for (size_t i = 0; i < batch_sums_.size(); ++i) use->gate_sums[i] += batch_sums_[i];
  use->positions += shape.positions();
}

kernels::HeadBalance ModelEvaluator::BalanceOf(const HeadUse& use) const {
  kernels::HeadBalanceInput input;
  input.layers = model_->config().layers;
  input.heads = model_->config().heads;
  input.positions = static_cast<double>(use.positions);
  input.gate_sums = use.gate_sums;
  kernels::HeadBalance balance;
  kernels::ComputeHeadBalance({}, input, &balance);
  return balance;
}

Result<TextEvaluation> ModelEvaluator::EvaluateText(const TokenStream& text,
                                                    const OnEvaluated& on_evaluated) {
  const int64_t context = limits_.context;
  const int64_t wanted = text.tokens() - 1;
  SINKFORGE_CHECK(wanted >= 1);
  const int64_t rows = (wanted + context - 1) / context;
  const int64_t rows_max = limits_.positions_max / context;
  BatchReader reader({context, rows_max, 0, 1});
  LossSums sums;
  HeadUse use = NoUse();
  for (int64_t first = 0; first < rows;) {
    // A last row that is shorter makes a batch of its own.
    const int64_t whole = wanted / context - first;
    const BatchShape shape = whole > 0 ? BatchShape{std::min(rows_max, whole), context}
                                       : BatchShape{1, wanted - first * context};
    reader.ReadInOrder(text, first, shape.rows, wanted);
    RunForward(shape, reader.inputs(), reader.targets(), &use);
    const std::span<const int32_t> targets(reader.targets(),
                                           static_cast<size_t>(shape.positions()));
    sums.Add(text, targets, model_->Loss(LossMode::kValue, 0),
             [this](std::vector<double>* losses) { model_->ReadLosses(losses); });
    first += shape.rows;
    if (on_evaluated) on_evaluated(use.positions, wanted);
  }
  TextEvaluation result;
  result.loss = sums.Result();
  result.bytes = static_cast<int64_t>(sums.bytes);
  if (!std::isfinite(result.loss.loss)) return NotFinite("loss");
  result.balance = BalanceOf(use);
  return result;
}

Result<SequenceScores> ModelEvaluator::ScoreSequences(std::span<const ScoredSequence> sequences,
                                                      const OnEvaluated& on_evaluated) {
  int64_t total = 0;
  for (const ScoredSequence& sequence : sequences) {
    SINKFORGE_CHECK(sequence.scored >= 1 && sequence.scored <= InputsOf(sequence) &&
                    InputsOf(sequence) <= limits_.context);
    total += InputsOf(sequence);
  }
  std::vector<size_t> order(sequences.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return sequences[a].tokens.size() < sequences[b].tokens.size();
  });
  SequenceScores scores;
  scores.log_likelihoods.resize(sequences.size());
  HeadUse use = NoUse();
  for (size_t begin = 0; begin < order.size();) {
    const int64_t length = InputsOf(sequences[order[begin]]);
    const auto rows_max = static_cast<size_t>(limits_.positions_max / length);
    size_t end = begin + 1;
    while (end < order.size() && end - begin < rows_max &&
           InputsOf(sequences[order[end]]) == length) {
      ++end;
    }
    ScoreBatch(sequences, std::span(order).subspan(begin, end - begin), &use,
               &scores.log_likelihoods);
    begin = end;
    if (on_evaluated) on_evaluated(use.positions, total);
  }
  for (const double value : scores.log_likelihoods) {
    if (!std::isfinite(value)) return NotFinite("log-likelihood of a choice");
  }
  scores.positions = use.positions;
  scores.balance = BalanceOf(use);
  return scores;
}

void ModelEvaluator::ScoreBatch(std::span<const ScoredSequence> sequences,
                                std::span<const size_t> batch, HeadUse* use,
                                std::vector<double>* log_likelihoods) {
  const int64_t length = InputsOf(sequences[batch.front()]);
  const BatchShape shape{static_cast<int64_t>(batch.size()), length};
  inputs_.clear();
  targets_.assign(static_cast<size_t>(shape.positions()), -1);
  for (size_t row = 0; row < batch.size(); ++row) {
    const ScoredSequence& sequence = sequences[batch[row]];
    inputs_.insert(inputs_.end(), sequence.tokens.begin(), sequence.tokens.end() - 1);
    std::copy(sequence.tokens.end() - sequence.scored, sequence.tokens.end(),
              targets_.begin() + static_cast<int64_t>(row + 1) * length - sequence.scored);
  }
  RunForward(shape, inputs_.data(), targets_.data(), use);
  model_->Loss(LossMode::kValue, 0);
  model_->ReadLosses(&losses_);
  for (size_t row = 0; row < batch.size(); ++row) {
    const auto begin = losses_.begin() + static_cast<int64_t>(row) * length;
    // What is not scored has a loss of zero.
    (*log_likelihoods)[batch[row]] = -std::accumulate(begin, begin + length, 0.0);
  }
}

}  // namespace sinkforge::trainer
