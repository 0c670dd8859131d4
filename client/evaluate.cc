// sinkforge evaluate: what a job's checkpoint or an exported model is worth on held-out text and on
// multiple-choice tasks. The trainer computes it.
#include "client/evaluate.h"

#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"
#include "client/session.h"
#include "client/stop_signal.h"
#include "client/trained_model.h"
#include "client/trainer_program.h"

namespace sinkforge::client {
namespace {

struct EvaluateOptions {
  ModelOptions model;
  std::vector<std::string> texts;
  std::vector<std::string> tasks;
  std::optional<int64_t> context;
  std::optional<std::string> delimiter;
  std::optional<int64_t> limit;
};

absl::Status CheckOptions(const EvaluateOptions& options) {
  if (options.texts.empty() && options.tasks.empty()) {
    return UsageError("there is nothing to evaluate on; give --text FILE or --task FILE");
  }
  if (options.context.has_value() && *options.context < 1) {
    return UsageError("--context must be 1 or more");
  }
  if (options.limit.has_value() && *options.limit < 1) {
    return UsageError("--limit must be 1 or more");
  }
  if (options.limit.has_value() && options.tasks.empty()) {
    return UsageError("--limit is of the items of tasks; give --task FILE");
  }
  const absl::Status status = CheckModelOptions(options.model);
  if (!status.ok()) return status;
  // Before a checkpoint is fetched.
  for (const std::vector<std::string>* files : {&options.texts, &options.tasks}) {
    for (const std::string& file : *files) {
      std::error_code error;
      if (std::filesystem::exists(file, error)) continue;
      return absl::NotFoundError(absl::StrCat(file, ": there is no such file"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Evaluate(Session& session, const EvaluateOptions& options) {
  const absl::Status status = CheckOptions(options);
  if (!status.ok()) return status;
  StopSignal stop(StopSignal::Source::kSignals);
  const auto model = FindTrainedModel(session, options.model, &stop);
  if (!model.ok()) return model.status();
  std::vector<std::string> arguments = {
      "evaluate", absl::StrCat("--format=", session.json() ? "json" : "table")};
  arguments.insert(arguments.end(), model->arguments.begin(), model->arguments.end());
  for (const std::string& file : options.texts) arguments.push_back(absl::StrCat("--text=", file));
  for (const std::string& file : options.tasks) arguments.push_back(absl::StrCat("--task=", file));
  if (options.context) arguments.push_back(absl::StrCat("--context=", *options.context));
  // Apart, since an option that ends with its equals sign would take the next argument.
  if (options.delimiter) arguments.insert(arguments.end(), {"--delimiter", *options.delimiter});
  if (options.limit) arguments.push_back(absl::StrCat("--limit=", *options.limit));
  return RunTrainer(session, arguments, &stop);
}

}  // namespace

Command EvaluateCommand() {
  auto options = std::make_shared<EvaluateOptions>();
  Command command;
  command.name = "evaluate";
  command.summary = "Measure a model on held-out text and multiple-choice tasks";
  command.examples =
      "  sinkforge evaluate d4-gated-1 --text held-out.txt\n"
      "  sinkforge evaluate d4-gated-1 --best --text news.txt law.txt -o json\n"
      "  sinkforge evaluate model.safetensors --task piqa.jsonl arc_easy.jsonl --limit 100\n"
      "A text is a .txt or .jsonl file, a .bin token shard, or a folder of shards. It is read in\n"
      "rows that follow one another, each token predicted from those before it in its row, as\n"
      "the validation of a training is. A task has one item on a line, in one of these forms:\n"
      "  {\"query\": \"...\", \"choices\": [\"...\", \"...\"], \"gold\": 0}\n"
      "  {\"context_options\": [\"...\", \"...\"], \"continuation\": \"...\", \"gold\": 0}\n"
      "  {\"ctx\": \"...\", \"endings\": [\"...\", \"...\"], \"label\": 0}\n"
      "A model chooses by the log-likelihood of the choices, and by that per byte. Importance\n"
      "and imbalance of the heads are over all tokens that the model reads.";
  command.arguments = {ModelArgument(&options->model)};
  command.options = ModelOptionList(&options->model);
  command.options.insert(
      command.options.begin(),
      {{"--text", "FILE...", "Texts, or folders of token shards", &options->texts},
       {"--task", "FILE...", "Files of multiple-choice items", &options->tasks},
       {"--limit", "N", "The first N items of every task only", &options->limit},
       {"--context", "N", "Tokens that a prediction sees at most (default: as trained)",
        &options->context},
       {.names = "--delimiter",
        .value = "TEXT",
        .help = "Between query and choice (default: a space, unless one has white space there)",
        .target = &options->delimiter,
        .empty = EmptyText::kAllowed}});
  command.run = [options](Session& session) { return Evaluate(session, *options); };
  return command;
}

}  // namespace sinkforge::client
