// Files under the work folder: metrics.jsonl, checkpoints/step-N.safetensors, dump/step-N/.
#include "worker/trainer/standalone_host.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "base/clock.h"
#include "base/files.h"
#include "worker/trainer/checkpoint_file.h"
#include "worker/trainer/step_dump.h"
#include "worker/trainer/step_json.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

Status SystemError(const std::string& path, int number) {
  return Status(number == ENOSPC ? StatusCode::kResourceExhausted : StatusCode::kUnavailable,
                path + ": cannot be written: " + std::strerror(number) +
                    (number == ENOSPC ? "; free some space and go on with --resume" : ""));
}

// True once for each SIGTERM or SIGINT that has come.
bool TakeTerminationSignal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  const timespec at_once{0, 0};
  return sigtimedwait(&set, nullptr, &at_once) > 0;
}

}  // namespace

Result<std::unique_ptr<StandaloneHost>> StandaloneHost::Create(const StandaloneOptions& options) {
  std::unique_ptr<StandaloneHost> host(new StandaloneHost(options));
  if (absl::Status made = base::MakeFolder(host->checkpoints_); !made.ok()) {
    return Status(StatusCode::kUnavailable, std::string(made.message()));
  }
  std::error_code error;
  const bool used = !ListCheckpoints(host->checkpoints_).empty() ||
                    std::filesystem::exists(host->metrics_path_, error);
  if (used && options.start == StandaloneOptions::Start::kNew) {
    return Status(StatusCode::kFailedPrecondition,
                  options.work_dir +
                      ": holds an earlier run; go on with --resume, or give another "
                      "--work-dir");
  }
  return host;
}

StandaloneHost::StandaloneHost(const StandaloneOptions& options)
    : options_(options),
      checkpoints_(options.work_dir + "/checkpoints"),
      metrics_path_(options.work_dir + "/metrics.jsonl") {
  writer_ = std::make_unique<BackgroundWriter>([this](const Snapshot& snapshot) {
    Status status = WriteCheckpointFile(CheckpointPath(checkpoints_, snapshot.state.step), snapshot,
                                        MakeRecord(context_, snapshot));
    if (status.ok()) RetainCheckpoints(checkpoints_, options_.keep);
    return status;
  });
}

StandaloneHost::~StandaloneHost() {
  writer_.reset();
  if (metrics_fd_ >= 0) close(metrics_fd_);
}

Result<std::optional<StoredCheckpoint>> StandaloneHost::LoadCheckpoint() {
  std::vector<int64_t> steps = ListCheckpoints(checkpoints_);
  std::reverse(steps.begin(), steps.end());
  Status last;
  for (int64_t step : steps) {
    Result<StoredCheckpoint> stored = ReadCheckpointFile(CheckpointPath(checkpoints_, step));
    if (stored.ok()) return std::optional<StoredCheckpoint>(std::move(stored).value());
    last = stored.status();
    if (last.code() != StatusCode::kDataLoss) return last;
    Warn(last.message() + "; trying the one before it");
  }
  if (last.ok()) {
    if (options_.start == StandaloneOptions::Start::kResume) {
      Warn(options_.work_dir + ": has no checkpoint to resume from; starting at step 1");
    }
    return std::optional<StoredCheckpoint>();
  }
  return Status(StatusCode::kDataLoss, checkpoints_ + ": no checkpoint can be read (" +
                                           last.message() + "); start anew in another --work-dir");
}

Status StandaloneHost::Begin(const RunContext& context, int64_t restored_step) {
  context_ = context;
  restored_step_ = restored_step;
  if (options_.dump_step > 0 && options_.dump_step <= restored_step) {
    return Status(StatusCode::kFailedPrecondition,
                  "--dump-step " + std::to_string(options_.dump_step) +
                      ": the run goes on from the checkpoint of step " +
                      std::to_string(restored_step) + "; give a later step");
  }
  if (Status status = KeepMetricsUpTo(restored_step); !status.ok()) return status;
  metrics_fd_ = open(metrics_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (metrics_fd_ < 0) return SystemError(metrics_path_, errno);
  return Status();
}

Status StandaloneHost::KeepMetricsUpTo(int64_t step) {
  std::ifstream file(metrics_path_, std::ios::binary);
  if (!file) return Status();
  std::string kept;
  for (std::string line; std::getline(file, line);) {
    const std::optional<int64_t> line_step = StepOfJson(line);
    // The last line may have been cut short by a crash.
    if (line_step && *line_step <= step) kept += line + "\n";
  }
  const absl::Status written = base::WriteFileDurably(metrics_path_, kept);
  if (written.ok()) return Status();
  return Status(StatusCode::kUnavailable, std::string(written.message()));
}

int64_t StandaloneHost::durable_step() const {
  return std::max(restored_step_, writer_->durable_step());
}

void StandaloneHost::OnStep(const StepReport& report) {
  const std::string line = StepToJson(report) + "\n";
  // One write(2) a line: a kill leaves whole lines, but perhaps not the last.
  if (write(metrics_fd_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    Fail(SystemError(metrics_path_, errno));
  }
  if (report.step == options_.dump_step) {
    const std::string folder = options_.work_dir + "/dump/step-" + std::to_string(report.step);
    if (Status status = WriteStepDump(dump_, folder); !status.ok()) Fail(status);
    dump_ = StepDump();
  }
  if (ProgressIsDue(report)) {
    std::fprintf(stderr, "%s\n", ProgressLine(report, options_.steps).c_str());
  }
}

bool StandaloneHost::ProgressIsDue(const StepReport& report) {
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(base::RealClock().Read().monotonic);
  const bool due = now.count() != last_progress_second_ || report.validation_loss.has_value() ||
                   report.step == options_.steps;
  if (due) last_progress_second_ = now.count();
  return due;
}

StepDump* StandaloneHost::DumpOf(int64_t step) {
  return step == options_.dump_step ? &dump_ : nullptr;
}

HostCommand StandaloneHost::Poll() {
  if (TakeTerminationSignal() && !stop_) {
    stop_ = true;
    std::fprintf(stderr, "stopping after a checkpoint\n");
  }
  return stop_ ? HostCommand::kCheckpointAndStop : HostCommand::kTrain;
}

Status StandaloneHost::WriteCheckpoint(Snapshot snapshot) {
  return writer_->Submit(std::move(snapshot));
}

Status StandaloneHost::FinishCheckpoints() { return writer_->Finish(); }

void StandaloneHost::Note(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
}

void StandaloneHost::Warn(const std::string& message) {
  std::fprintf(stderr, "warning: %s\n", message.c_str());
}

void StandaloneHost::Fail(const Status& status) {
  if (failure_.ok()) failure_ = status;
  stop_ = true;
}

}  // namespace sinkforge::trainer
