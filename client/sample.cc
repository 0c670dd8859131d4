// sinkforge sample: text from a job's checkpoint or from an exported model. The trainer writes it.
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/session.h"
#include "client/stop_signal.h"
#include "client/trained_model.h"
#include "client/trainer_program.h"

namespace sinkforge::client {
namespace {

struct SampleOptions {
  ModelOptions model;
  std::string prompt;
  int64_t max_tokens = 200;
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  int64_t seed = 1;
};

absl::Status CheckOptions(const SampleOptions& options) {
  if (options.max_tokens < 1 || options.max_tokens > (1 << 20)) {
    return UsageError("--max-tokens must be from 1 to 1048576");
  }
  if (!(options.temperature >= 0 && options.temperature <= 1e6)) {
    return UsageError("--temperature must be from 0 (always the likeliest token) to 1e6");
  }
  if (options.top_k < 0) return UsageError("--top-k must be 0 (all tokens) or more");
  if (!(options.top_p >= 1e-9 && options.top_p <= 1)) {
    return UsageError("--top-p must be above 0 and at most 1");
  }
  if (options.seed < 0) return UsageError("--seed must be 0 or more");
  return CheckModelOptions(options.model);
}

absl::StatusOr<int> Sample(Session& session, const SampleOptions& options) {
  const absl::Status status = CheckOptions(options);
  if (!status.ok()) return status;
  StopSignal stop(StopSignal::Source::kSignals);
  const auto model = FindTrainedModel(session, options.model, &stop);
  if (!model.ok()) return model.status();
  std::vector<std::string> arguments = {
      "sample",
      absl::StrCat("--max-tokens=", options.max_tokens),
      absl::StrCat("--temperature=", FormatExact(options.temperature)),
      absl::StrCat("--top-k=", options.top_k),
      absl::StrCat("--top-p=", FormatExact(options.top_p)),
      absl::StrCat("--seed=", options.seed),
      absl::StrCat("--format=", session.json() ? "json" : "text")};
  arguments.insert(arguments.end(), model->arguments.begin(), model->arguments.end());
  // An option that ends with its equals sign would take the next argument for its value.
  if (!options.prompt.empty()) arguments.push_back(absl::StrCat("--prompt=", options.prompt));
  return RunTrainer(session, arguments, &stop);
}

}  // namespace

Command SampleCommand() {
  auto options = std::make_shared<SampleOptions>();
  Command command;
  command.name = "sample";
  command.summary = "Write text with a job's model, or with an exported one";
  command.examples =
      "  sinkforge sample d4-gated-1 --prompt \"In the beginning\"\n"
      "  sinkforge sample d4-gated-1 --best --prompt \"And God\" --temperature 0.8 --top-k 50\n"
      "  sinkforge sample exported/model.safetensors --prompt \"And\" --max-tokens 50 -o json\n"
      "The prompt and what follows come to stdout as they are written. A model that was trained\n"
      "on text files as bytes needs a prompt: it knows no token that begins a document.";
  command.arguments = {ModelArgument(&options->model)};
  command.options = ModelOptionList(&options->model);
  command.options.insert(
      command.options.begin(),
      {{.names = "--prompt",
        .value = "TEXT",
        .help = "The text to go on from",
        .target = &options->prompt,
        .empty = EmptyText::kAllowed},
       {"--max-tokens", "N", "Tokens to write at most (default: 200)", &options->max_tokens},
       {"--temperature", "T", "0: always the likeliest token (default: 1)", &options->temperature},
       {"--top-k", "K", "Among the K likeliest tokens only; 0: all (default)", &options->top_k},
       {"--top-p", "P", "Among the fewest tokens whose probabilities reach P (default: 1)",
        &options->top_p},
       {"--seed", "N", "The same seed writes the same (default: 1)", &options->seed}});
  command.formats = {"text", "json"};
  command.run = [options](Session& session) { return Sample(session, *options); };
  return command;
}

}  // namespace sinkforge::client
