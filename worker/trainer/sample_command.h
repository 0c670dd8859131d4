// `sinkforge-trainer sample`: text from an exported model.
#pragma once

#include <cstdint>
#include <string>

#include "worker/trainer/core/token_sampler.h"
#include "worker/trainer/outcome.h"

namespace sinkforge::trainer {

enum class SampleFormat { kText, kJson };

struct SampleCommand {
  std::string model;      // an exported file, or a folder with one
  std::string tokenizer;  // empty: what the job names
  std::string prompt;
  int64_t tokens_max = 200;
  SamplingOptions sampling;
  int64_t threads = 1;
  SampleFormat format = SampleFormat::kText;
};

// Prints the prompt and what follows it to stdout as it comes, errors to stderr.
ExitCode RunSampleCommand(const SampleCommand& command);

}  // namespace sinkforge::trainer
