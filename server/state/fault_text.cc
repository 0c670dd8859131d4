// Messages; see fault_text.h.
#include "server/state/fault_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/state/model.h"

namespace sinkforge::server {
namespace {

// Where the job would go on.
std::string LastCheckpoint(const v1::Job& job) {
  const v1::Checkpoint* newest = NewestCheckpoint(job);
  return newest == nullptr ? "there is no checkpoint yet"
                           : absl::StrCat("the last good checkpoint is step ", newest->step());
}

// "; before that it failed on w1, w2" where it was tried on several workers, of which `cause` is
// about the last.
std::string TriedBefore(const v1::Job& job) {
  std::vector<std::string> names;
  for (int i = 0; i + 1 < job.avoided_workers_size(); ++i) {
    if (job.avoided_workers(i).unfit()) names.push_back(job.avoided_workers(i).worker());
  }
  if (names.empty()) return "";
  return absl::StrCat("; before that it failed on ", absl::StrJoin(names, ", "));
}

std::string ResumeCommand(const v1::Job& job) {
  return absl::StrCat("`sinkforge resume ", job.job_id(), "`");
}

}  // namespace

std::string SecondsText(std::chrono::nanoseconds duration) {
  return absl::StrCat(std::chrono::duration<double>(duration).count(), " s");
}

std::string FatalText(const v1::Job& job, v1::Reason reason, const std::string& cause) {
  switch (reason) {
    case v1::REASON_BAD_JOB:
      return absl::StrCat(cause, ". Correct the job file and submit it again");
    case v1::REASON_BAD_DATA:
      return absl::StrCat(cause, TriedBefore(job), ". Correct the data, then ", ResumeCommand(job));
    case v1::REASON_NON_FINITE_LOSS:
    case v1::REASON_LOSS_SPIKE:
      return absl::StrCat(cause, "; ", LastCheckpoint(job),
                          ". Submit it again with lower learning rates or train.bad_batches: skip, "
                          "or look at the metrics of "
                          "the steps before: `sinkforge metrics ",
                          job.job_id(), "`");
    default:
      return absl::StrCat(cause, TriedBefore(job), "; ", LastCheckpoint(job),
                          ". Make room on the worker's disk, then ", ResumeCommand(job));
  }
}

std::string RetryText(const RetryDecision& decision, const std::string& cause) {
  return absl::StrCat(cause, " (retry ", decision.failures, " of ", decision.budget, ")");
}

std::string ExhaustedText(const v1::Job& job, const RetryDecision& decision,
                          const std::string& cause) {
  return absl::StrCat("gave up after ", decision.failures,
                      " failures of this kind without a new checkpoint; the last: ", cause, "; ",
                      LastCheckpoint(job), ". See `sinkforge logs ", job.job_id(), "`, then ",
                      ResumeCommand(job));
}

std::string NoResumeText(const v1::Job& job) {
  const std::string from_weights =
      absl::StrCat("write its weights to a data root with `sinkforge checkpoints export ",
                   job.job_id(), " FILE.safetensors`, and submit a job with init.from set to that");
  switch (job.state()) {
    case v1::JOB_STATE_SUCCEEDED:
      return absl::StrCat("all its ", job.spec().train().steps(), " steps are done; to train on, ",
                          from_weights);
    case v1::JOB_STATE_CANCELLED:
      return NewestCheckpoint(job) == nullptr
                 ? std::string("submit it again")
                 : absl::StrCat("submit it again; or, to begin with what it has learnt, ",
                                from_weights);
    default:
      return "only paused and failed jobs can; this one is neither, and goes on by itself";
  }
}

std::string PausedByFaultText(const v1::Job& job, const std::string& cause) {
  return absl::StrCat("paused, but its attempt had failed before the checkpoint of the pause (",
                      cause, "); ", LastCheckpoint(job), "; ", ResumeCommand(job), " goes on");
}

}  // namespace sinkforge::server
