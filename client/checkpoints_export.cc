// sinkforge checkpoints export: a checkpoint as a safetensors file, read from the workers that hold
// its parts; every chunk's checksum is verified.
#include <sys/stat.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/checkpoint_holders.h"
#include "client/checkpoint_spool.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/session.h"
#include "proto/jobspec/job_file.h"

namespace sinkforge::client {
namespace {

struct ExportOptions {
  std::string job_id;
  std::string file;
  std::optional<int64_t> step;
  bool with_optimizer = false;
  bool force = false;
};

absl::StatusOr<v1::Checkpoint> ChooseCheckpoint(const v1::Job& job, std::optional<int64_t> step) {
  std::vector<std::string> steps;
  const v1::Checkpoint* chosen = nullptr;
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    if (checkpoint.deleting()) continue;
    steps.push_back(absl::StrCat(checkpoint.step()));
    // Oldest first: the last one that fits is the newest.
    if (!step.has_value() || checkpoint.step() == *step) chosen = &checkpoint;
  }
  if (chosen != nullptr) return *chosen;
  if (steps.empty()) {
    return absl::NotFoundError(absl::StrCat(
        job.job_id(), " has no committed checkpoint yet; see `sinkforge show ", job.job_id(), "`"));
  }
  std::string all;
  for (const std::string& text : steps) absl::StrAppend(&all, all.empty() ? "" : ", ", text);
  return absl::NotFoundError(absl::StrCat(job.job_id(), " has no checkpoint of step ", *step,
                                          "; it has those of steps ", all));
}

// Shows how far the export is: on a terminal only, at most once a megabyte.
class ExportProgress {
 public:
  ExportProgress(const Environment& environment, int64_t bytes_total)
      : environment_(environment), bytes_total_(bytes_total) {}
  void Show(int64_t bytes) {
    if (!environment_.err_is_terminal || bytes - shown_ < (1 << 20)) return;
    shown_ = bytes;
    *environment_.err << "\r" << FormatBytes(bytes) << " of at most " << FormatBytes(bytes_total_)
                      << "\033[K" << std::flush;
  }
  void Finish() {
    if (shown_ > 0) *environment_.err << "\r\033[K" << std::flush;
  }

 private:
  const Environment& environment_;
  int64_t bytes_total_;
  int64_t shown_ = 0;
};

// The part from the first of its holders that is there.
absl::StatusOr<std::string> ChooseHolder(const v1::ListWorkersResponse& workers,
                                         const v1::Checkpoint& checkpoint, int32_t rank) {
  absl::StatusOr<std::string> first;
  for (const std::string& holder : HoldersOfRank(checkpoint, rank)) {
    const auto address = AddressOf(workers, holder);
    if (address.ok()) return holder;
    if (first.status().code() != absl::StatusCode::kUnavailable) first = address.status();
  }
  return first;
}

absl::Status Fetch(Session& session, const v1::Job& job, const v1::Checkpoint& checkpoint,
                   CheckpointSpool* spool) {
  StopSignal stop(StopSignal::Source::kSignals);
  const auto workers = session.coordinator().ListWorkers();
  if (!workers.ok()) return workers.status();
  ExportProgress progress(session.environment(), checkpoint.bytes());
  for (const v1::CheckpointPart& part : checkpoint.parts()) {
    const auto holder = ChooseHolder(*workers, checkpoint, part.rank());
    if (!holder.ok()) return holder.status();
    const std::string address = *AddressOf(*workers, *holder);
    v1::ReadCheckpointRequest request;
    request.set_job_id(job.job_id());
    request.set_step(checkpoint.step());
    request.set_attempt(checkpoint.attempt());
    request.set_rank(part.rank());
    spool->BeginPart();
    absl::Status status =
        ReadCheckpointPart(address, request, &stop, [&](const v1::CheckpointData& data) {
          const absl::Status accepted = spool->Accept(data);
          progress.Show(spool->bytes());
          return accepted;
        });
    if (status.ok()) status = spool->CompletePart();
    progress.Finish();
    if (stop.stopped()) return absl::CancelledError("interrupted; nothing was written");
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("checkpoint of step ", checkpoint.step(), ", rank ",
                                       part.rank(), " at worker ", *holder, " (", address,
                                       "): ", std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

safetensors::Metadata MetadataOf(const v1::Job& job, const v1::Checkpoint& checkpoint,
                                 const CheckpointSpool& spool, const ExportOptions& options) {
  safetensors::Metadata metadata;
  metadata["format"] = "pt";  // what other readers look for: row-major tensors by name
  metadata[safetensors::kSchemaVersionKey] = absl::StrCat(safetensors::kSchemaVersion);
  metadata["sinkforge_job"] = job.job_id();
  metadata["sinkforge_step"] = absl::StrCat(checkpoint.step());
  metadata["sinkforge_attempt"] = absl::StrCat(checkpoint.attempt());
  metadata["sinkforge_job_file"] = jobspec::FormatJobFile(job.spec());
  if (options.with_optimizer) metadata["sinkforge_trainer_state"] = spool.trainer_state();
  return metadata;
}

// The export replaces the file by a rename, which would turn a device or a link into a plain file.
absl::Status CheckTarget(const ExportOptions& options) {
  struct stat info {};
  if (lstat(options.file.c_str(), &info) != 0) return absl::OkStatus();
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(options.file, ": is there and is no regular file; give another name"));
  }
  if (!options.force) {
    return absl::AlreadyExistsError(
        absl::StrCat(options.file, ": exists already; --force replaces it"));
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Export(Session& session, const ExportOptions& options) {
  const absl::Status target = CheckTarget(options);
  if (!target.ok()) return target;
  const auto job = session.coordinator().GetJob(options.job_id);
  if (!job.ok()) return job.status();
  const auto checkpoint = ChooseCheckpoint(*job, options.step);
  if (!checkpoint.ok()) return checkpoint.status();
  auto spool = CheckpointSpool::Create(options.file, options.with_optimizer
                                                         ? ExportContent::kParametersAndOptimizer
                                                         : ExportContent::kParameters);
  if (!spool.ok()) return spool.status();
  absl::Status status = Fetch(session, *job, *checkpoint, spool->get());
  if (!status.ok()) return status;
  status = (*spool)->WriteSafetensors(MetadataOf(*job, *checkpoint, **spool, options));
  if (!status.ok()) return status;
  if (session.json()) {
    nlohmann::ordered_json json;
    json["file"] = options.file;
    json["job_id"] = job->job_id();
    json["step"] = checkpoint->step();
    json["attempt"] = checkpoint->attempt();
    json["tensors"] = (*spool)->tensor_count();
    json["bytes"] = (*spool)->bytes();
    session.out() << json.dump(2) << "\n";
  } else {
    session.out() << options.file << std::endl;
  }
  session.Say(absl::StrCat("exported ", (*spool)->tensor_count(), " tensors of step ",
                           checkpoint->step(), ", ", FormatBytes((*spool)->bytes()),
                           ", every checksum verified"));
  return kExitOk;
}

}  // namespace

Command CheckpointsExportCommand() {
  auto options = std::make_shared<ExportOptions>();
  Command command;
  command.name = "export";
  command.summary = "Write a checkpoint as a safetensors file";
  command.examples =
      "  sinkforge checkpoints export d4-gated-1 model.safetensors\n"
      "  sinkforge checkpoints export d4-gated-1 all.safetensors --step 100 --with-optimizer";
  command.arguments = {{.name = "JOB", .help = "The job's id", .target = &options->job_id},
                       {.name = "FILE",
                        .help = "The file to write",
                        .target = &options->file,
                        .completion = Argument::Completion::kFiles}};
  command.options = {
      {"--step", "N", "The checkpoint of step N (default: the newest)", &options->step},
      {"--with-optimizer", "", "The optimizer's state and the trainer's position as well",
       &options->with_optimizer},
      {"--force", "", "Replace the file where it exists", &options->force}};
  command.run = [options](Session& session) { return Export(session, *options); };
  return command;
}

}  // namespace sinkforge::client
