// See final_checkpoint.h.
#include "client/final_checkpoint.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"

namespace sinkforge::client {

std::optional<int64_t> NewestCheckpointStep(const v1::Job& job) {
  std::optional<int64_t> newest;
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    if (!checkpoint.deleting()) newest = std::max(newest.value_or(0), checkpoint.step());
  }
  return newest;
}

std::optional<int64_t> MissingFinalStep(const v1::Job& job) {
  if (!IsFinal(job.state())) return std::nullopt;
  // A job succeeds with the checkpoint of its last step; what it reported last may be older.
  const int64_t last =
      job.state() == v1::JOB_STATE_SUCCEEDED ? job.spec().train().steps() : job.progress().step();
  if (NewestCheckpointStep(job).value_or(0) >= last) return std::nullopt;
  return last;
}

std::string OlderWeightsWarning(const v1::Job& job) {
  const std::optional<int64_t> newest = NewestCheckpointStep(job);
  const std::optional<int64_t> missing = MissingFinalStep(job);
  if (!newest.has_value() || !missing.has_value()) return "";
  return absl::StrCat("warning: ", job.job_id(), " ended at step ", *missing,
                      ", but its newest checkpoint is of step ", *newest,
                      ": these are the weights of step ", *newest);
}

}  // namespace sinkforge::client
