// EvaluationReport: what `evaluate` found, for people and for programs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/trainer/core/model_evaluator.h"
#include "worker/trainer/exported_model.h"

namespace sinkforge::trainer {

struct EvaluatedText {
  std::string name;
  TextEvaluation result;
};

// A share of items, and its standard error.
struct Accuracy {
  int64_t right = 0;
  int64_t items = 0;
  double share() const { return static_cast<double>(right) / static_cast<double>(items); }
  // Of the mean of so many items that are right or wrong; of one item it is not known: NaN.
  double standard_error() const;
};

struct EvaluatedTask {
  std::string name;
  int64_t options = 0;        // of all items
  double guessing = 0;        // the accuracy of drawing an option
  Accuracy sum;               // the option with the largest log-likelihood
  Accuracy per_byte;          // with the largest log-likelihood per byte of what is chosen
  int64_t items_cut = 0;      // whose query lost its beginning
  int64_t items_windows = 0;  // with an option that is longer than the context
  int64_t positions = 0;      // that the model read
  kernels::HeadBalance balance;
};

struct EvaluationReport {
  const ExportedModel* model = nullptr;
  std::string tokenizer;
  int64_t context = 0;
  std::string precision;
  int64_t threads = 0;
  std::vector<EvaluatedText> texts;
  std::vector<EvaluatedTask> tasks;
};

std::string ToTable(const EvaluationReport& report);
// Importance as [layers][heads]; what is not known is null.
std::string ToJson(const EvaluationReport& report);

}  // namespace sinkforge::trainer
