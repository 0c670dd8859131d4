// Checkpoints: what workers hold, retention, and noticing what is gone. Commits are in commits.h.
#pragma once

#include <string>

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

using CheckpointParts = google::protobuf::RepeatedPtrField<v1::CheckpointPart>;

// Of a worker to this Coordinator, and of an incarnation.
enum class Report { kFirst, kLater };

// Replaces what the worker holds by what it says it holds, and draws every conclusion: commits,
// finished deletions, losses.
void TakeParts(Call* call, WorkerRecord* worker, Report report, const CheckpointParts& reported);

// The worker never comes back, as if it had returned with nothing. The result: checkpoints that are
// lost, because no other worker has all that it had of them.
int64_t LoseHolder(Call* call, const std::string& worker);

// The checkpoint that the attempt under way restores from cannot be read: the one before counts.
void LoseRestore(Call* call, JobRecord* record, const std::string& message);

// A job is never behind its newest checkpoint: where `progress` is, its step, loss and imbalance
// become those of the checkpoint, and the result is true. What was measured otherwise (validation)
// stays as it was reported.
bool CatchUpProgress(const v1::Job& job, v1::JobProgress* progress);

// Marks for deletion what the job need not keep. The newest checkpoint that is on two workers stays
// until a newer one is, where there are two workers at all.
void RetainCheckpoints(Call* call, JobRecord* record);

// Its holders drop it; the record goes when all of them have.
void MarkDeleting(Call* call, JobRecord* record, v1::Checkpoint* checkpoint);

// Adds the job's checkpoints to the index over holders, or takes them out.
void IndexCheckpoint(State* state, const JobRecord& record, const v1::Checkpoint& checkpoint);
void UnindexJob(Call* call, const JobRecord& record);

}  // namespace sinkforge::server
