// sinkforge sample: text from a job's checkpoint or from an exported model. The trainer writes it;
// this finds the model, and the tokenizer that goes with it.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/checkpoint_export.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/final_checkpoint.h"
#include "client/format.h"
#include "client/local_instance.h"
#include "client/session.h"
#include "client/stop_signal.h"
#include "tokenizer/byte_tokenizer.h"

namespace sinkforge::client {
namespace {

namespace fs = std::filesystem;

struct SampleOptions {
  std::string model;  // a job's id or a path
  std::string prompt;
  std::string tokenizer;
  std::optional<int64_t> step;
  bool best = false;
  int64_t max_tokens = 200;
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  int64_t seed = 1;
  int64_t threads = 2;
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
  if (options.threads < 1 || options.threads > 1024) {
    return UsageError("--threads must be from 1 to 1024");
  }
  if (options.best && options.step.has_value()) {
    return UsageError("--best and --step name two checkpoints; give one of them");
  }
  return absl::OkStatus();
}

// A folder of this command's own, removed at its end.
class WorkFolder {
 public:
  static absl::StatusOr<std::unique_ptr<WorkFolder>> Create(const Environment& environment) {
    const std::string temporary = environment.variable("TMPDIR");
    std::string name = absl::StrCat(temporary.empty() ? "/tmp" : temporary, "/sinkforge-XXXXXX");
    if (mkdtemp(name.data()) == nullptr) {
      return absl::UnavailableError(absl::StrCat(name, ": ", std::strerror(errno),
                                                 "; set TMPDIR to a folder that can be written"));
    }
    return std::unique_ptr<WorkFolder>(new WorkFolder(name));
  }
  ~WorkFolder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit WorkFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// The checkpoint at whose step the validation loss was lowest.
absl::StatusOr<int64_t> BestStep(Session& session, const v1::Job& job) {
  v1::QueryMetricsRequest request;
  request.set_job_id(job.job_id());
  request.add_series("validation_loss");
  request.set_max_points(100'000);
  const auto response = session.coordinator().QueryMetrics(request);
  if (!response.ok()) return response.status();
  std::optional<std::pair<double, int64_t>> best;
  for (const v1::Series& series : response->series()) {
    for (const v1::Point& point : series.points()) {
      for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
        const bool fits = checkpoint.step() == point.step() && !checkpoint.deleting();
        if (!fits || (best.has_value() && best->first <= point.value())) continue;
        best = {point.value(), point.step()};
      }
    }
  }
  if (best.has_value()) return best->second;
  return absl::NotFoundError(absl::StrCat(
      job.job_id(), ": no checkpoint's step has a validation loss; choose one with --step (see ",
      "`sinkforge checkpoints list ", job.job_id(), "`)"));
}

// data.tokenizer lies under the data roots of workers; on their machine it is found here.
absl::StatusOr<std::string> TokenizerOfJob(Session& session, const v1::Job& job) {
  const std::string& name = job.spec().data().tokenizer();
  if (name == tokenizer::kBytesName) return name;
  std::vector<std::string> candidates = {name};
  const auto local = ReadLocalInstance(session.default_state_folder());
  if (local.ok() && name.front() != '/') {
    for (const std::string& root : local->settings.data_roots) {
      candidates.push_back(absl::StrCat(root, "/", name));
    }
  }
  std::error_code error;
  for (const std::string& candidate : candidates) {
    if (fs::exists(candidate, error)) return candidate;
  }
  return absl::NotFoundError(absl::StrCat(job.job_id(), " was trained with the tokenizer ", name,
                                          ", which is not on this machine; name a copy of it with ",
                                          "--tokenizer"));
}

// Runs the trainer to its end, its output going where ours goes.
absl::StatusOr<int> RunTrainer(Session& session, const std::vector<std::string>& arguments,
                               StopSignal* stop) {
  const std::string program = session.environment().program_folder + "/sinkforge-trainer";
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  session.out().flush();
  const pid_t pid = fork();
  if (pid < 0) return absl::UnavailableError(absl::StrCat("fork: ", std::strerror(errno)));
  if (pid == 0) {
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  {
    // This program outlives the trainer: it has a folder to remove.
    const StopSignal::Hook hook(stop, [pid] { kill(pid, SIGTERM); });
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
  }
  if (stop->stopped()) return kExitInterrupted;
  if (WIFSIGNALED(status)) {
    // Whoever read the text has enough of it, as in `sinkforge sample ... | head -1`.
    if (WTERMSIG(status) == SIGPIPE) return kExitOk;
    return absl::InternalError(absl::StrCat("sinkforge-trainer was ended by signal ",
                                            WTERMSIG(status), " (", strsignal(WTERMSIG(status)),
                                            ")"));
  }
  const int code = WEXITSTATUS(status);
  if (code == 127) {
    return absl::NotFoundError(absl::StrCat(program, ": cannot be started; build or install it"));
  }
  // Its message is on stderr already.
  if (code == 2) return kExitUsage;
  return code == 0 ? kExitOk : kExitError;
}

absl::StatusOr<int> SampleModel(Session& session, const SampleOptions& options,
                                const std::string& model, const std::string& tokenizer,
                                StopSignal* stop) {
  std::vector<std::string> arguments = {
      "sample",
      absl::StrCat("--model=", model),
      absl::StrCat("--max-tokens=", options.max_tokens),
      absl::StrCat("--temperature=", FormatExact(options.temperature)),
      absl::StrCat("--top-k=", options.top_k),
      absl::StrCat("--top-p=", FormatExact(options.top_p)),
      absl::StrCat("--seed=", options.seed),
      absl::StrCat("--threads=", options.threads),
      absl::StrCat("--format=", session.json() ? "json" : "text")};
  // An option that ends with its equals sign would take the next argument for its value.
  if (!options.prompt.empty()) arguments.push_back(absl::StrCat("--prompt=", options.prompt));
  if (!tokenizer.empty()) arguments.push_back(absl::StrCat("--tokenizer=", tokenizer));
  return RunTrainer(session, arguments, stop);
}

absl::StatusOr<int> SampleJob(Session& session, const SampleOptions& options, StopSignal* stop) {
  const auto job = session.coordinator().GetJob(options.model);
  if (!job.ok()) {
    if (!absl::IsNotFound(job.status())) return job.status();
    return absl::NotFoundError(absl::StrCat(std::string(job.status().message()),
                                            "; nor is there a file or folder of that name"));
  }
  std::string tokenizer_of_job;
  if (options.tokenizer.empty()) {
    auto found = TokenizerOfJob(session, *job);
    if (!found.ok()) return found.status();
    tokenizer_of_job = *std::move(found);
  }
  std::optional<int64_t> step = options.step;
  if (options.best) {
    const auto best = BestStep(session, *job);
    if (!best.ok()) return best.status();
    step = *best;
  }
  const auto checkpoint = ChooseCheckpoint(*job, step);
  if (!checkpoint.ok()) return checkpoint.status();
  const std::string older = step.has_value() ? "" : OlderWeightsWarning(*job);
  if (!older.empty()) session.Say(older);
  const auto folder = WorkFolder::Create(session.environment());
  if (!folder.ok()) return folder.status();
  const std::string file = (*folder)->path() + "/model.safetensors";
  const auto exported = ExportCheckpoint(session, *job, *checkpoint, {file}, stop);
  if (!exported.ok()) return exported.status();
  session.Say(absl::StrCat(job->job_id(), ", checkpoint of step ", checkpoint->step()));
  if (!tokenizer_of_job.empty() && tokenizer_of_job != tokenizer::kBytesName) {
    // Beside the model it must be the one of the training; --tokenizer would be a user's choice.
    std::error_code error;
    const std::string beside = (*folder)->path() + "/tokenizer.json";
    fs::create_symlink(fs::absolute(tokenizer_of_job), beside, error);
    if (error) return absl::UnavailableError(absl::StrCat(beside, ": ", error.message()));
  }
  return SampleModel(session, options, file, options.tokenizer, stop);
}

absl::StatusOr<int> Sample(Session& session, const SampleOptions& options) {
  const absl::Status status = CheckOptions(options);
  if (!status.ok()) return status;
  StopSignal stop(StopSignal::Source::kSignals);
  std::error_code error;
  if (!fs::exists(options.model, error)) return SampleJob(session, options, &stop);
  if (options.best || options.step.has_value()) {
    return UsageError(absl::StrCat(options.model, " is one model; --best and --step choose among ",
                                   "a job's checkpoints"));
  }
  return SampleModel(session, options, options.model, options.tokenizer, &stop);
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
  command.arguments = {{.name = "JOB",
                        .help = "The job's id, or an exported file or its folder",
                        .target = &options->model,
                        .completion = Argument::Completion::kFiles}};
  command.options = {
      {.names = "--prompt",
       .value = "TEXT",
       .help = "The text to go on from",
       .target = &options->prompt,
       .empty = EmptyText::kAllowed},
      {"--step", "N", "The checkpoint of step N (default: the newest)", &options->step},
      {"--best", "", "The checkpoint of the lowest validation loss", &options->best},
      {"--max-tokens", "N", "Tokens to write at most (default: 200)", &options->max_tokens},
      {"--temperature", "T", "0: always the likeliest token (default: 1)", &options->temperature},
      {"--top-k", "K", "Among the K likeliest tokens only; 0: all (default)", &options->top_k},
      {"--top-p", "P", "Among the fewest tokens whose probabilities reach P (default: 1)",
       &options->top_p},
      {"--seed", "N", "The same seed writes the same (default: 1)", &options->seed},
      {"--tokenizer", "FILE", "A tokenizer.json (default: the job's)", &options->tokenizer},
      {"--threads", "N", "Threads that compute (default: 2)", &options->threads}};
  command.formats = {"text", "json"};
  command.run = [options](Session& session) { return Sample(session, *options); };
  return command;
}

}  // namespace sinkforge::client
