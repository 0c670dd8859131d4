// Copies of checkpoint parts; see copies.h.
#include "server/state/copies.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "server/state/checkpoints.h"
#include "server/state/commits.h"
#include "server/state/waiting.h"

namespace sinkforge::server {
namespace {

PartKey KeyOfPart(const v1::CheckpointPart& part) {
  return {part.job_id(), part.attempt(), part.step(), part.rank()};
}

std::vector<std::string> HoldersOfRank(const v1::Checkpoint& checkpoint, int32_t rank) {
  std::vector<std::string> holders;
  for (const v1::CheckpointPart& part : checkpoint.parts()) {
    if (part.rank() == rank) holders.push_back(part.worker());
  }
  for (const v1::CheckpointPart& copy : checkpoint.copies()) {
    if (copy.rank() == rank) holders.push_back(copy.worker());
  }
  return holders;
}

bool HasRoom(const WorkerRecord& worker, int64_t bytes) {
  return worker.snapshot.disk_free_bytes() >= bytes;
}

bool Answers(const Call& call, const WorkerRecord& worker) {
  return IsHeard(worker, LatelyOf(call));
}

// The worker with the least to hold that may take the part; null where there is none. One that does
// not answer may be dead, so that it is the last choice.
WorkerRecord* ChooseTarget(Call* call, const v1::CheckpointPart& part,
                           const std::vector<std::string>& holders) {
  WorkerRecord* silent = nullptr;
  for (const auto& [load, name] : call->state().takers.by_load()) {
    if (std::find(holders.begin(), holders.end(), name) != holders.end()) continue;
    WorkerRecord& worker = call->state().workers.at(name);
    if (!HasRoom(worker, part.bytes())) {
      const int64_t refused = worker.bytes_refused;
      worker.bytes_refused = refused == 0 ? part.bytes() : std::min(refused, part.bytes());
    } else if (Answers(*call, worker)) {
      return &worker;
    } else if (silent == nullptr) {
      silent = &worker;
    }
  }
  return silent;
}

void StartCopy(Call* call, WorkerRecord* target, const v1::CheckpointPart& part) {
  const PartKey key = KeyOfPart(part);
  target->copying[key] = part.bytes();
  call->state().copying[key] = target->name;
  call->state().recheck_leaves = true;
  call->state().takers.Update(*target);
  call->Touch(target);
}

void StopCopy(Call* call, const PartKey& key) {
  State& state = call->state();
  const auto fetched = state.copying.find(key);
  if (fetched == state.copying.end()) return;
  WorkerRecord* copier = state.FindWorker(fetched->second);
  EndCopy(&state, copier, key);
  call->Touch(copier);
}

// Parts whose first holder is away, or about to be, and not expected back after a restart: a copy
// on a worker that stays takes their place. Returns whether anything changed.
bool PreferCopiesThatStay(const State& state, v1::Checkpoint* checkpoint) {
  bool changed = false;
  for (v1::CheckpointPart& part : *checkpoint->mutable_parts()) {
    if (Stays(state, part.worker()) || IsExpected(state, part.worker())) continue;
    for (v1::CheckpointPart& copy : *checkpoint->mutable_copies()) {
      if (copy.rank() != part.rank() || !Stays(state, copy.worker())) continue;
      part.Swap(&copy);
      changed = true;
      break;
    }
  }
  return changed;
}

enum class PartPlan {
  kEnough,   // on enough workers that stay
  kHeld,     // on all of them that there are: one that comes makes a new plan
  kFetched,  // a worker is to fetch it
  kStuck,    // nobody can read it, or nobody can take it
};

// The worker that is to fetch the part may be dead, or its disk full: another one does, if it can.
PartPlan PlanFetched(Call* call, WorkerRecord* copier, const v1::CheckpointPart& part,
                     const std::vector<std::string>& holders) {
  const bool has_room = HasRoom(*copier, part.bytes());
  if (has_room && Answers(*call, *copier)) return PartPlan::kFetched;
  WorkerRecord* target = ChooseTarget(call, part, holders);
  const bool is_better = target != nullptr && (!has_room || Answers(*call, *target));
  if (has_room && !is_better) return PartPlan::kFetched;
  StopCopy(call, KeyOfPart(part));
  if (target == nullptr) return PartPlan::kStuck;
  StartCopy(call, target, part);
  return PartPlan::kFetched;
}

PartPlan PlanPart(Call* call, const v1::Checkpoint& checkpoint, const v1::CheckpointPart& part) {
  State& state = call->state();
  const std::vector<std::string> holders = HoldersOfRank(checkpoint, part.rank());
  int staying = 0;
  bool readable = false;
  for (const std::string& holder : holders) {
    readable = readable || IsServing(state, holder);
    const WorkerRecord* worker = state.FindWorker(holder);
    if (worker != nullptr && worker->takes_work()) ++staying;
  }
  if (staying >= kCheckpointHolders) {
    StopCopy(call, KeyOfPart(part));  // one of them was away when it began
    return PartPlan::kEnough;
  }
  if (!readable) return PartPlan::kStuck;
  if (staying >= state.takers.count()) return PartPlan::kHeld;
  const auto fetched = state.copying.find(KeyOfPart(part));
  if (fetched != state.copying.end()) {
    return PlanFetched(call, state.FindWorker(fetched->second), part, holders);
  }
  WorkerRecord* target = ChooseTarget(call, part, holders);
  if (target == nullptr) return PartPlan::kStuck;
  StartCopy(call, target, part);
  return PartPlan::kFetched;
}

// The worst of the plans of all parts of the checkpoint.
PartPlan PlanCheckpoint(Call* call, const v1::Checkpoint& checkpoint) {
  PartPlan worst = PartPlan::kEnough;
  for (const v1::CheckpointPart& part : checkpoint.parts()) {
    worst = std::max(worst, PlanPart(call, checkpoint, part));
  }
  return worst;
}

// The same of all checkpoints of the job, also of those that are to be committed.
PartPlan PlanJob(Call* call, const JobRecord& record) {
  PartPlan worst = PartPlan::kEnough;
  for (const v1::Checkpoint& checkpoint : record.job.checkpoints()) {
    if (checkpoint.deleting()) continue;
    worst = std::max(worst, PlanCheckpoint(call, checkpoint));
  }
  for (const auto& [step, deadline] : record.commit_deadlines) {
    worst = std::max(worst, PlanCheckpoint(call, PendingCheckpoint(call->state(), record, step)));
  }
  return worst;
}

}  // namespace

bool IsThin(const v1::Checkpoint& checkpoint) {
  return std::any_of(checkpoint.parts().begin(), checkpoint.parts().end(), [&](const auto& part) {
    return HoldersOfRank(checkpoint, part.rank()).size() < kCheckpointHolders;
  });
}

bool Stays(const State& state, const std::string& worker) {
  return IsServing(state, worker) && !state.FindWorker(worker)->snapshot.draining();
}

bool IsExpected(const State& state, const std::string& worker) {
  return state.expected.contains(worker) && !IsServing(state, worker);
}

bool IsServing(const State& state, const std::string& worker) {
  const WorkerRecord* record = state.FindWorker(worker);
  return record != nullptr && record->reported && record->alive;
}

Monotonic LatelyOf(const Call& call) {
  return call.now().monotonic - 2 * call.options().snapshot_interval;
}

bool IsHeard(const WorkerRecord& worker, Monotonic since) {
  return worker.reported && worker.alive && worker.connected && worker.heard >= since;
}

bool IsReadable(const State& state, const v1::Checkpoint& checkpoint) {
  return std::all_of(checkpoint.parts().begin(), checkpoint.parts().end(), [&](const auto& part) {
    const std::vector<std::string> holders = HoldersOfRank(checkpoint, part.rank());
    return std::any_of(holders.begin(), holders.end(),
                       [&](const std::string& holder) { return IsServing(state, holder); });
  });
}

bool IsBeingCopied(const State& state, const v1::Checkpoint& checkpoint) {
  return std::any_of(checkpoint.parts().begin(), checkpoint.parts().end(), [&](const auto& part) {
    return HoldersOfRank(checkpoint, part.rank()).size() < kCheckpointHolders &&
           state.copying.contains(KeyOfPart(part));
  });
}

bool HasHolderThatLeft(const State& state, const v1::Checkpoint& checkpoint) {
  return std::any_of(checkpoint.parts().begin(), checkpoint.parts().end(), [&](const auto& part) {
    if (HoldersOfRank(checkpoint, part.rank()).size() >= kCheckpointHolders) return false;
    const WorkerRecord* holder = state.FindWorker(part.worker());
    return holder == nullptr || holder->left();
  });
}

std::vector<std::string> HoldersOfPart(const State& state, const PartKey& key) {
  const JobRecord* record = state.Find(key.job_id);
  if (record == nullptr) return {};
  for (const v1::Checkpoint& checkpoint : record->job.checkpoints()) {
    if (checkpoint.attempt() != key.attempt || checkpoint.step() != key.step) continue;
    return HoldersOfRank(checkpoint, key.rank);
  }
  std::vector<std::string> holders;
  const auto pending = record->pending.find(key.step);
  if (key.attempt != record->job.attempt() || pending == record->pending.end()) return holders;
  const auto rank = pending->second.find(key.rank);
  if (rank == pending->second.end()) return holders;
  for (const v1::CheckpointPart& part : rank->second) holders.push_back(part.worker());
  return holders;
}

void NoteThin(Call* call, const JobRecord& record) {
  call->state().thin.insert(record.number);
  call->state().thin_to_plan.insert(record.number);
  call->state().plan_copies = true;
}

void NoteThinOf(Call* call, const std::string& worker) {
  State& state = call->state();
  state.replan_copies = true;  // those that wait for another worker, too
  state.recheck_commits = true;
  const auto held = state.held.find(worker);
  if (held == state.held.end()) return;
  for (const CheckpointKey& key : held->second) state.thin.insert(key.number);
}

void NoteCopier(Call* call, const WorkerRecord& worker) {
  State& state = call->state();
  for (const auto& [key, bytes] : worker.copying) {
    const int64_t number = Coordinator::NumberOf(key.job_id);
    state.thin_to_plan.insert(number);
    state.commits_to_check.insert(number);
    state.plan_copies = true;
  }
}

void NoteDisk(Call* call, WorkerRecord* worker) {
  const auto is_too_large = [&](const auto& part) { return !HasRoom(*worker, part.second); };
  if (std::any_of(worker->copying.begin(), worker->copying.end(), is_too_large)) {
    NoteCopier(call, *worker);
  }
  if (worker->bytes_refused > 0 && HasRoom(*worker, worker->bytes_refused)) {
    worker->bytes_refused = 0;
    call->state().plan_copies = true;
  }
}

void TakeCopy(Call* call, const std::string& worker, const PartKey& key,
              const v1::CheckpointPart& part) {
  State& state = call->state();
  JobRecord* job = state.Find(key.job_id);
  for (v1::Checkpoint& checkpoint : *job->job.mutable_checkpoints()) {
    if (checkpoint.attempt() != key.attempt || checkpoint.step() != key.step) continue;
    const std::vector<std::string> holders = HoldersOfRank(checkpoint, key.rank);
    // A part of a rank that the checkpoint does not have is nobody's.
    if (holders.empty()) return;
    if (std::find(holders.begin(), holders.end(), worker) != holders.end()) return;
    *checkpoint.add_copies() = part;
    call->Store(*job);
    IndexCheckpoint(&state, *job, checkpoint);
    NoteThin(call, *job);
    if (PreferCopiesThatStay(state, &checkpoint)) RefreshWaiting(call, job);
    return;
  }
}

void PreferHoldersThatStay(Call* call, const std::string& worker) {
  State& state = call->state();
  const auto held = state.held.find(worker);
  if (held == state.held.end()) return;
  for (const CheckpointKey& key : held->second) {
    JobRecord& record = state.jobs.at(key.number);
    bool changed = false;
    for (v1::Checkpoint& checkpoint : *record.job.mutable_checkpoints()) {
      if (checkpoint.attempt() != key.attempt || checkpoint.step() != key.step) continue;
      changed = PreferCopiesThatStay(state, &checkpoint);
      break;
    }
    if (!changed) continue;
    call->Store(record);
    RefreshWaiting(call, &record);
  }
}

void EndCopy(State* state, WorkerRecord* worker, const PartKey& key) {
  if (worker->copying.erase(key) == 0) return;
  state->copying.erase(key);
  state->recheck_leaves = true;
  state->takers.Update(*worker);
}

void ForgetCopies(State* state, WorkerRecord* worker) {
  const std::map<PartKey, int64_t> copying = worker->copying;
  for (const auto& [key, bytes] : copying) {
    if (worker->takes_work() && FateOf(*state, key) != PartFate::kDrop) continue;
    EndCopy(state, worker, key);
  }
}

void PlanCopies(Call* call) {
  State& state = call->state();
  const bool plan = std::exchange(state.plan_copies, false);
  if (std::exchange(state.replan_copies, false)) {
    for (auto& [name, worker] : state.workers) ForgetCopies(&state, &worker);
    state.thin_to_plan = state.thin;
  } else if (!plan) {
    return;
  }
  const std::set<int64_t> numbers = std::exchange(state.thin_to_plan, {});
  for (const int64_t number : numbers) {
    const auto job = state.jobs.find(number);
    if (job == state.jobs.end()) {
      state.thin.erase(number);
      continue;
    }
    const PartPlan worst = PlanJob(call, job->second);
    if (worst == PartPlan::kStuck) state.thin_to_plan.insert(number);
    if (worst != PartPlan::kEnough) continue;
    RetainCheckpoints(call, &job->second);
    state.thin.erase(number);
  }
}

}  // namespace sinkforge::server
