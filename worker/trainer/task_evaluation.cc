// Options to scores, scores to the option that is chosen.
#include "worker/trainer/task_evaluation.h"

#include <algorithm>
#include <utility>

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

Result<EncodedTask> EncodeTask(const std::string& path, const std::vector<ChoiceItem>& items,
                               const ChoiceEncoding& encoding) {
  EncodedTask task;
  task.name = path;
  ChoiceEncoder encoder(encoding);
  for (const ChoiceItem& item : items) {
    EncodedTask::Item& to = task.items.emplace_back();
    to.gold = item.gold;
    for (const ChoiceItem::Option& option : item.options) {
      auto encoded = encoder.Encode(option);
      if (!encoded.ok()) {
        return Status(StatusCode::kInvalidData, path + ":" + std::to_string(item.line) + ": " +
                                                    encoded.status().message() +
                                                    "; correct or remove the line");
      }
      std::vector<ScoredSequence>& sequences = encoded.value().sequences;
      to.fit = std::max(to.fit, encoded.value().fit);
      to.sequences.push_back(static_cast<int64_t>(sequences.size()));
      to.bytes.push_back(static_cast<int64_t>(option.continuation.size()));
      std::move(sequences.begin(), sequences.end(), std::back_inserter(task.sequences));
    }
  }
  return task;
}

Result<EvaluatedTask> EvaluateTask(const EncodedTask& task, ModelEvaluator* evaluator,
                                   const OnEvaluated& on_evaluated) {
  const auto scores = evaluator->ScoreSequences(task.sequences, on_evaluated);
  if (!scores.ok()) return scores.status();
  EvaluatedTask result;
  result.name = task.name;
  result.positions = scores.value().positions;
  result.balance = scores.value().balance;
  auto next = scores.value().log_likelihoods.begin();
  for (const EncodedTask::Item& item : task.items) {
    std::vector<double> sums;
    std::vector<double> per_byte;
    for (size_t option = 0; option < item.sequences.size(); ++option) {
      double sum = 0;
      for (int64_t i = 0; i < item.sequences[option]; ++i) sum += *next++;
      sums.push_back(sum);
      per_byte.push_back(sum / static_cast<double>(item.bytes[option]));
    }
    // The first of equals, as everywhere.
    const auto chosen = [](const std::vector<double>& values) {
      return std::max_element(values.begin(), values.end()) - values.begin();
    };
    result.sum.right += chosen(sums) == item.gold ? 1 : 0;
    result.per_byte.right += chosen(per_byte) == item.gold ? 1 : 0;
    result.options += static_cast<int64_t>(sums.size());
    result.guessing += 1.0 / static_cast<double>(sums.size());
    result.items_cut += item.fit == Fit::kCut ? 1 : 0;
    result.items_windows += item.fit == Fit::kWindows ? 1 : 0;
  }
  const auto items = static_cast<int64_t>(task.items.size());
  result.sum.items = result.per_byte.items = items;
  result.guessing /= static_cast<double>(items);
  return result;
}

}  // namespace sinkforge::trainer
