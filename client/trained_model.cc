// A job's checkpoint goes into a folder of the command's own, its tokenizer beside it.
#include "client/trained_model.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/checkpoint_export.h"
#include "client/exit_code.h"
#include "client/final_checkpoint.h"
#include "client/local_instance.h"
#include "tokenizer/byte_tokenizer.h"

namespace sinkforge::client {
namespace {

namespace fs = std::filesystem;

// The step of the checkpoint whose validation loss is lowest; of equal ones the earliest.
absl::StatusOr<int64_t> BestStep(const v1::Job& job) {
  const v1::Checkpoint* best = nullptr;
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    if (checkpoint.deleting() || !checkpoint.has_validation_loss()) continue;
    if (best == nullptr || checkpoint.validation_loss() < best->validation_loss()) {
      best = &checkpoint;
    }
  }
  if (best != nullptr) return best->step();
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

// Of a file with a model.
std::vector<std::string> ArgumentsFor(const std::string& file, const ModelOptions& options) {
  std::vector<std::string> arguments = {absl::StrCat("--model=", file),
                                        absl::StrCat("--threads=", options.threads)};
  if (!options.tokenizer.empty()) {
    arguments.push_back(absl::StrCat("--tokenizer=", options.tokenizer));
  }
  return arguments;
}

absl::StatusOr<TrainedModel> ModelOfJob(Session& session, const ModelOptions& options,
                                        StopSignal* stop) {
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
    const auto best = BestStep(*job);
    if (!best.ok()) return best.status();
    step = *best;
  }
  const auto checkpoint = ChooseCheckpoint(*job, step);
  if (!checkpoint.ok()) return checkpoint.status();
  const std::string older = step.has_value() ? "" : OlderWeightsWarning(*job);
  if (!older.empty()) session.Say(older);
  auto folder = WorkFolder::Create(session.environment());
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
  return TrainedModel{ArgumentsFor(file, options), *std::move(folder)};
}

}  // namespace

Argument ModelArgument(ModelOptions* options) {
  return {.name = "JOB",
          .help = "The job's id, or an exported file or its folder",
          .target = &options->model,
          .completion = Argument::Completion::kFiles};
}

std::vector<Option> ModelOptionList(ModelOptions* options) {
  return {{"--step", "N", "The checkpoint of step N (default: the newest)", &options->step},
          {"--best", "", "The checkpoint of the lowest validation loss", &options->best},
          {"--tokenizer", "FILE", "A tokenizer.json (default: the job's)", &options->tokenizer},
          {"--threads", "N", "Threads that compute (default: 2)", &options->threads}};
}

absl::Status CheckModelOptions(const ModelOptions& options) {
  if (options.threads < 1 || options.threads > 1024) {
    return UsageError("--threads must be from 1 to 1024");
  }
  if (options.best && options.step.has_value()) {
    return UsageError("--best and --step name two checkpoints; give one of them");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<WorkFolder>> WorkFolder::Create(const Environment& environment) {
  const std::string temporary = environment.variable("TMPDIR");
  std::string name = absl::StrCat(temporary.empty() ? "/tmp" : temporary, "/sinkforge-XXXXXX");
  if (mkdtemp(name.data()) == nullptr) {
    return absl::UnavailableError(absl::StrCat(name, ": ", std::strerror(errno),
                                               "; set TMPDIR to a folder that can be written"));
  }
  return std::unique_ptr<WorkFolder>(new WorkFolder(name));
}

WorkFolder::~WorkFolder() {
  std::error_code error;
  fs::remove_all(path_, error);
}

absl::StatusOr<TrainedModel> FindTrainedModel(Session& session, const ModelOptions& options,
                                              StopSignal* stop) {
  std::error_code error;
  if (!fs::exists(options.model, error)) return ModelOfJob(session, options, stop);
  if (options.best || options.step.has_value()) {
    return UsageError(absl::StrCat(options.model, " is one model; --best and --step choose among ",
                                   "a job's checkpoints"));
  }
  return TrainedModel{ArgumentsFor(options.model, options), nullptr};
}

}  // namespace sinkforge::client
