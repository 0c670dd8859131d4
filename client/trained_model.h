// TrainedModel: the model that a command was given as a job or as an exported file, as files that
// sinkforge-trainer reads. `sample` and `evaluate` use it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/command.h"
#include "client/session.h"
#include "client/stop_signal.h"

namespace sinkforge::client {

struct ModelOptions {
  std::string model;      // a job's id or a path
  std::string tokenizer;  // empty: the job's
  std::optional<int64_t> step;
  bool best = false;
  int64_t threads = 2;
};

// What names the model on the command line, and which of a job's checkpoints.
Argument ModelArgument(ModelOptions* options);
std::vector<Option> ModelOptionList(ModelOptions* options);
// A usage error where the options contradict each other.
absl::Status CheckModelOptions(const ModelOptions& options);

// A folder of a command's own, removed at its end.
class WorkFolder {
 public:
  // UNAVAILABLE: it cannot be made.
  static absl::StatusOr<std::unique_ptr<WorkFolder>> Create(const Environment& environment);
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit WorkFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

struct TrainedModel {
  // --model, --tokenizer and --threads of sinkforge-trainer.
  std::vector<std::string> arguments;
  std::unique_ptr<WorkFolder> folder;  // holds a job's checkpoint; null for an exported file
};

// Exports a job's checkpoint. NOT_FOUND: neither a job nor a file, no such checkpoint, or the job's
// tokenizer is not on this machine; the errors of ExportCheckpoint.
absl::StatusOr<TrainedModel> FindTrainedModel(Session& session, const ModelOptions& options,
                                              StopSignal* stop);

}  // namespace sinkforge::client
