// `sinkforge-trainer evaluate`: what an exported model is worth on held-out text and on
// multiple-choice tasks, and how its heads behave there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "worker/trainer/outcome.h"

namespace sinkforge::trainer {

enum class EvaluateFormat { kTable, kJson };

struct EvaluateCommand {
  std::string model;      // an exported file, or a folder with one
  std::string tokenizer;  // empty: what the job names
  std::vector<std::string> texts;
  std::vector<std::string> tasks;
  std::optional<int64_t> context;  // absent: that of the training, which it may not exceed
  std::optional<std::string> delimiter;
  std::optional<int64_t> items_max;  // of every task
  int64_t threads = 1;
  EvaluateFormat format = EvaluateFormat::kTable;
};

// Prints the result to stdout, progress and errors to stderr.
ExitCode RunEvaluateCommand(const EvaluateCommand& command);

}  // namespace sinkforge::trainer
