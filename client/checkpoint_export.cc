// Parts are read one after another; what is missing of any ends the export.
#include "client/checkpoint_export.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/checkpoint_holders.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "proto/jobspec/job_file.h"

namespace sinkforge::client {
namespace {

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

// The first of the part's holders that is there.
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
                   CheckpointSpool* spool, StopSignal* stop) {
  const auto workers = session.coordinator().ListWorkers();
  if (!workers.ok()) return workers.status();
  const base::Tls* tls = session.coordinator().tls();
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
        ReadCheckpointPart(address, tls, request, stop, [&](const v1::CheckpointData& data) {
          const absl::Status accepted = spool->Accept(data);
          progress.Show(spool->bytes());
          return accepted;
        });
    if (status.ok()) status = spool->CompletePart();
    progress.Finish();
    if (stop->stopped()) return absl::CancelledError("interrupted; nothing was written");
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
                                 const CheckpointSpool& spool, ExportContent content) {
  safetensors::Metadata metadata;
  metadata["format"] = "pt";  // what other readers look for: row-major tensors by name
  metadata[safetensors::kSchemaVersionKey] = absl::StrCat(safetensors::kSchemaVersion);
  metadata["sinkforge_job"] = job.job_id();
  metadata["sinkforge_step"] = absl::StrCat(checkpoint.step());
  metadata["sinkforge_attempt"] = absl::StrCat(checkpoint.attempt());
  metadata["sinkforge_job_file"] = jobspec::FormatJobFile(job.spec());
  // The file says `auto` where it was found: the run cannot be repeated without the number.
  if (job.progress().micro_batch() > 0) {
    metadata["sinkforge_micro_batch"] = absl::StrCat(job.progress().micro_batch());
  }
  const auto state = nlohmann::json::parse(spool.trainer_state(), nullptr, false);
  const auto tokenizer = state.is_object() ? state.find("tokenizer") : state.end();
  if (tokenizer != state.end() && tokenizer->is_string()) {
    metadata["sinkforge_tokenizer"] = tokenizer->get<std::string>();
  }
  if (content == ExportContent::kParametersAndOptimizer) {
    metadata["sinkforge_trainer_state"] = spool.trainer_state();
  }
  return metadata;
}

}  // namespace

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
        job.job_id(), " has no ", IsFinal(job.state()) ? "" : "committed ", "checkpoint",
        IsFinal(job.state()) ? "" : " yet", "; see `sinkforge show ", job.job_id(), "`"));
  }
  return absl::NotFoundError(
      absl::StrCat(job.job_id(), " has no checkpoint of step ", *step,
                   steps.size() == 1 ? "; it has that of step " : "; it has those of steps ",
                   absl::StrJoin(steps, ", ")));
}

absl::StatusOr<ExportedCheckpoint> ExportCheckpoint(Session& session, const v1::Job& job,
                                                    const v1::Checkpoint& checkpoint,
                                                    const ExportTarget& target, StopSignal* stop) {
  auto spool = CheckpointSpool::Create(target.file, target.content);
  if (!spool.ok()) return spool.status();
  absl::Status status = Fetch(session, job, checkpoint, spool->get(), stop);
  if (!status.ok()) return status;
  status = (*spool)->WriteSafetensors(MetadataOf(job, checkpoint, **spool, target.content));
  if (!status.ok()) return status;
  return ExportedCheckpoint{(*spool)->tensor_count(), (*spool)->bytes()};
}

}  // namespace sinkforge::client
