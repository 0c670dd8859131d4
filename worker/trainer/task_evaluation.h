// TaskEvaluation: a model's accuracy on multiple-choice items.
#pragma once

#include <string>
#include <vector>

#include "kernels/status.h"
#include "worker/trainer/choice_encoding.h"
#include "worker/trainer/choice_task.h"
#include "worker/trainer/core/model_evaluator.h"
#include "worker/trainer/evaluation_report.h"

namespace sinkforge::trainer {

// Every item as tokens, ready for a model.
struct EncodedTask {
  std::string name;
  struct Item {
    std::vector<int64_t> sequences;  // how many, of every option
    std::vector<int64_t> bytes;      // of what is chosen among or scored, of every option
    int64_t gold = 0;
    Fit fit = Fit::kWhole;  // the worst of its options
  };
  std::vector<Item> items;
  std::vector<ScoredSequence> sequences;  // of all items and options, in order
};

// kInvalidData names file and line.
kernels::Result<EncodedTask> EncodeTask(const std::string& path,
                                        const std::vector<ChoiceItem>& items,
                                        const ChoiceEncoding& encoding);

// Errors as ModelEvaluator::ScoreSequences'.
kernels::Result<EvaluatedTask> EvaluateTask(const EncodedTask& task, ModelEvaluator* evaluator,
                                            const OnEvaluated& on_evaluated);

}  // namespace sinkforge::trainer
