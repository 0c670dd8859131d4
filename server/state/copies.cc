// Copies of checkpoint parts; see copies.h.
#include "server/state/copies.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "server/state/checkpoints.h"
#include "server/state/waiting.h"

namespace sinkforge::server {
namespace {

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

bool IsServing(const State& state, const std::string& worker) {
  const WorkerRecord* record = state.FindWorker(worker);
  return record != nullptr && record->reported && record->alive;
}

// The worker with the least to hold that may take the part; null where there is none.
WorkerRecord* ChooseTarget(State* state, const v1::CheckpointPart& part,
                           const std::vector<std::string>& holders) {
  WorkerRecord* best = nullptr;
  const auto load = [](const WorkerRecord& worker) {
    return worker.parts.size() + worker.copying.size();
  };
  for (auto& [name, worker] : state->workers) {
    if (!worker.takes_work() || worker.snapshot.disk_free_bytes() < part.bytes()) continue;
    if (std::find(holders.begin(), holders.end(), name) != holders.end()) continue;
    if (best == nullptr || load(worker) < load(*best)) best = &worker;
  }
  return best;
}

// True: the part is on enough workers that stay.
// `under_way`: what any worker is fetching.
bool PlanPart(Call* call, const v1::Checkpoint& checkpoint, const v1::CheckpointPart& part,
              std::set<PartKey>* under_way) {
  State& state = call->state();
  const std::vector<std::string> holders = HoldersOfRank(checkpoint, part.rank());
  int staying = 0;
  bool readable = false;
  for (const std::string& holder : holders) {
    readable = readable || IsServing(state, holder);
    const WorkerRecord* worker = state.FindWorker(holder);
    if (worker != nullptr && worker->takes_work()) ++staying;
  }
  if (staying >= kCheckpointHolders) return true;
  if (!readable) return false;
  const PartKey key{part.job_id(), part.attempt(), part.step(), part.rank()};
  if (under_way->contains(key)) return false;
  WorkerRecord* target = ChooseTarget(&state, part, holders);
  if (target != nullptr) {
    target->copying.insert(key);
    under_way->insert(key);
    call->Touch(target);
  }
  return false;
}

}  // namespace

bool IsThin(const v1::Checkpoint& checkpoint) {
  return std::any_of(checkpoint.parts().begin(), checkpoint.parts().end(), [&](const auto& part) {
    return HoldersOfRank(checkpoint, part.rank()).size() < kCheckpointHolders;
  });
}

void NoteThin(Call* call, const JobRecord& record) {
  call->state().thin.insert(record.number);
  call->state().replan_copies = true;
}

void NoteThinOf(Call* call, const std::string& worker) {
  State& state = call->state();
  state.replan_copies = true;  // those that wait for another worker, too
  const auto held = state.held.find(worker);
  if (held == state.held.end()) return;
  for (const CheckpointKey& key : held->second) state.thin.insert(key.number);
}

void TakeCopy(Call* call, const std::string& worker, const PartKey& key,
              const v1::CheckpointPart& part) {
  State& state = call->state();
  WorkerRecord* record = state.FindWorker(worker);
  if (record != nullptr) record->copying.erase(key);
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
    return;
  }
}

void PreferOtherHolders(Call* call, const std::string& worker) {
  State& state = call->state();
  const auto held = state.held.find(worker);
  if (held == state.held.end()) return;
  for (const CheckpointKey& key : held->second) {
    JobRecord& record = state.jobs.at(key.number);
    bool changed = false;
    for (v1::Checkpoint& checkpoint : *record.job.mutable_checkpoints()) {
      if (checkpoint.attempt() != key.attempt || checkpoint.step() != key.step) continue;
      for (v1::CheckpointPart& part : *checkpoint.mutable_parts()) {
        if (part.worker() != worker) continue;
        for (v1::CheckpointPart& copy : *checkpoint.mutable_copies()) {
          if (copy.rank() != part.rank() || !IsServing(state, copy.worker())) continue;
          part.Swap(&copy);
          changed = true;
          break;
        }
      }
    }
    if (!changed) continue;
    call->Store(record);
    RefreshWaiting(call, &record);
  }
}

void PlanCopies(Call* call) {
  State& state = call->state();
  if (!std::exchange(state.replan_copies, false)) return;
  const auto takers = std::count_if(state.workers.begin(), state.workers.end(),
                                    [](const auto& entry) { return entry.second.takes_work(); });
  if (takers < kCheckpointHolders) return;  // the next worker that comes makes a new plan
  std::set<PartKey> under_way;
  for (auto& [name, worker] : state.workers) {
    std::erase_if(worker.copying, [&](const PartKey& key) {
      return !worker.takes_work() || FateOf(state, key) != PartFate::kCommitted;
    });
    under_way.insert(worker.copying.begin(), worker.copying.end());
  }
  for (auto it = state.thin.begin(); it != state.thin.end();) {
    const auto job = state.jobs.find(*it);
    bool enough = true;
    if (job != state.jobs.end()) {
      for (const v1::Checkpoint& checkpoint : job->second.job.checkpoints()) {
        if (checkpoint.deleting()) continue;
        for (const v1::CheckpointPart& part : checkpoint.parts()) {
          enough = PlanPart(call, checkpoint, part, &under_way) && enough;
        }
      }
      if (enough) RetainCheckpoints(call, &job->second);
    }
    it = enough ? state.thin.erase(it) : std::next(it);
  }
}

}  // namespace sinkforge::server
