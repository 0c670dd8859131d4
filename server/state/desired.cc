// What a worker is to do, derived from the state every time it is asked for.
#include <algorithm>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/state/commits.h"
#include "server/state/worker_link.h"

namespace sinkforge::server {
namespace {

void AddRank(const State& state, const JobRecord& record, const RankState& rank,
             v1::DesiredState* desired) {
  const v1::Job& job = record.job;
  v1::DesiredRank* wanted = desired->add_ranks();
  wanted->set_job_id(job.job_id());
  wanted->set_attempt(job.attempt());
  wanted->set_rank(rank.placement.rank());
  wanted->set_world_size(static_cast<int32_t>(record.attempt->ranks.size()));
  wanted->set_slot(rank.placement.slot());
  *wanted->mutable_spec() = job.spec();
  wanted->set_run(IsToStop(state, record) ? v1::RUN_REQUEST_CHECKPOINT_AND_STOP
                                          : v1::RUN_REQUEST_TRAIN);
  wanted->set_parameters(job.parameters());
  *wanted->mutable_skip_batches() = job.skipped_batches();
  wanted->set_trace_id(job.trace_id());
  wanted->set_job_uid(job.uid());
  const v1::Checkpoint* restore = RestoreOf(job);
  if (restore == nullptr) return;
  *wanted->mutable_restore() = *restore;
  for (const std::string& name : HoldersOf(*restore)) {
    const WorkerRecord* holder = state.FindWorker(name);
    if (holder != nullptr && !holder->snapshot.address().empty()) {
      (*wanted->mutable_holder_addresses())[name] = holder->snapshot.address();
    }
  }
}

// An end is forgotten by its worker only when nothing depends on it any more: while the attempt is
// under way a restarted coordinator must be able to learn it again.
bool IsSettled(const State& state, const v1::RankStatus& status) {
  if (status.phase() != v1::RANK_PHASE_ENDED) return false;
  const JobRecord* record = state.Find(status.job_id());
  return record == nullptr || !record->attempt.has_value() ||
         record->job.attempt() != status.attempt();
}

void AddParts(const State& state, const WorkerRecord& worker, v1::DesiredState* desired) {
  std::set<std::tuple<std::string, int64_t, int64_t>> drops;
  for (const auto& [key, part] : worker.parts) {
    switch (worker.unsettled.contains(key) ? FateOf(state, key) : PartFate::kCommitted) {
      case PartFate::kCommitted:
        desired->add_committed_parts(
            absl::StrCat(key.job_id, "/", key.attempt, "/", key.step, "/", key.rank));
        break;
      case PartFate::kDrop:
        drops.emplace(key.job_id, key.attempt, key.step);
        break;
      case PartFate::kPending:
        break;
    }
  }
  const auto add_drop = [&](const std::string& job_id, int64_t attempt, int64_t step) {
    v1::DropCheckpoint* drop = desired->add_drop_checkpoints();
    drop->set_job_id(job_id);
    drop->set_attempt(attempt);
    drop->set_step(step);
    return drop;
  };
  for (const auto& [job_id, attempt, step] : drops) add_drop(job_id, attempt, step);
  for (const StrayCheckpoint& stray : worker.strays) {
    add_drop(stray.job_id, stray.attempt, stray.step)->set_job_uid(stray.job_uid);
  }
}

// The part, from the first of its holders that serves.
void AddCopy(const State& state, const v1::Checkpoint& checkpoint, const PartKey& key,
             v1::DesiredState* desired) {
  if (checkpoint.attempt() != key.attempt || checkpoint.step() != key.step) return;
  std::vector<v1::CheckpointPart> parts(checkpoint.parts().begin(), checkpoint.parts().end());
  parts.insert(parts.end(), checkpoint.copies().begin(), checkpoint.copies().end());
  for (const v1::CheckpointPart& part : parts) {
    const WorkerRecord* holder = state.FindWorker(part.worker());
    if (part.rank() != key.rank || holder == nullptr || !holder->alive ||
        holder->snapshot.address().empty()) {
      continue;
    }
    v1::CopyPart* copy = desired->add_copy_parts();
    *copy->mutable_part() = part;
    copy->set_address(holder->snapshot.address());
    return;
  }
}

// Those first that a commit waits for.
void AddCopies(const State& state, const WorkerRecord& worker, v1::DesiredState* desired) {
  std::vector<PartKey> committed;
  for (const auto& [key, bytes] : worker.copying) {
    const PartFate fate = FateOf(state, key);
    if (fate == PartFate::kCommitted) committed.push_back(key);
    if (fate != PartFate::kPending) continue;
    AddCopy(state, PendingCheckpoint(state, *state.Find(key.job_id), key.step), key, desired);
  }
  for (const PartKey& key : committed) {
    for (const v1::Checkpoint& checkpoint : state.Find(key.job_id)->job.checkpoints()) {
      AddCopy(state, checkpoint, key, desired);
    }
  }
}

}  // namespace

v1::DesiredState DesiredOf(const State& state, const WorkerRecord& worker) {
  v1::DesiredState desired;
  desired.set_desired_revision(worker.revision);
  for (const auto& [slot, key] : worker.assigned) {
    const JobRecord* record = state.Find(key.job_id);
    const RankState& rank = record->attempt->ranks[static_cast<size_t>(key.rank)];
    if (!rank.ended()) AddRank(state, *record, rank, &desired);
  }
  for (const v1::RankStatus& status : worker.snapshot.ranks()) {
    if (IsSettled(state, status)) {
      desired.add_acknowledged_ends(
          absl::StrCat(status.job_id(), "/", status.attempt(), "/", status.rank()));
    }
  }
  AddParts(state, worker, &desired);
  AddCopies(state, worker, &desired);
  desired.set_leave(worker.leave);
  desired.set_only_copies(worker.only_copies);
  *desired.mutable_snapshot_interval() =
      base::ToProto(std::min(state.options.snapshot_interval, state.options.lease / 3));
  *desired.mutable_lease() = base::ToProto(state.options.lease);
  return desired;
}

}  // namespace sinkforge::server
