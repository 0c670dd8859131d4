// Workers on their way out; see leaving.h.
#include "server/state/leaving.h"

#include <algorithm>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "server/state/attempts.h"
#include "server/state/commits.h"
#include "server/state/copies.h"

namespace sinkforge::server {
namespace {

// None of the workers that stay has the part. Only what is thin can be so.
bool IsAlone(const State& state, const WorkerRecord& worker, const PartKey& key) {
  if (!state.thin.contains(Coordinator::NumberOf(key.job_id))) return false;
  if (FateOf(state, key) == PartFate::kDrop) return false;
  const std::vector<std::string> holders = HoldersOfPart(state, key);
  return std::none_of(holders.begin(), holders.end(), [&](const std::string& name) {
    const WorkerRecord* other = state.FindWorker(name);
    return name != worker.name && other != nullptr && other->connected && other->takes_work();
  });
}

// Another holder's stream is broken: at the end of its lease at the latest it is known whether
// somebody has to fetch the part.
bool IsInDoubt(const State& state, const WorkerRecord& worker, const PartKey& key) {
  const std::vector<std::string> holders = HoldersOfPart(state, key);
  return std::any_of(holders.begin(), holders.end(), [&](const std::string& name) {
    const WorkerRecord* other = state.FindWorker(name);
    return name != worker.name && other != nullptr && !other->connected && other->takes_work();
  });
}

bool IsWaitedFor(const State& state, const WorkerRecord& worker) {
  if (!worker.assigned.empty()) return true;
  // After a restart, who could take a copy or has it already may not have come back yet.
  const bool may_come = std::any_of(state.expected.begin(), state.expected.end(),
                                    [&](const auto& name) { return IsExpected(state, name); });
  return std::any_of(worker.parts.begin(), worker.parts.end(), [&](const auto& part) {
    const PartKey& key = part.first;
    if (!IsAlone(state, worker, key)) return false;
    const auto fetched = state.copying.find(key);
    const bool is_fetched = fetched != state.copying.end() && IsServing(state, fetched->second);
    return is_fetched || may_come || IsInDoubt(state, worker, key);
  });
}

}  // namespace

int64_t OnlyCopies(const State& state, const WorkerRecord& worker) {
  std::set<std::tuple<std::string, int64_t, int64_t>> checkpoints;
  for (const auto& [key, part] : worker.parts) {
    if (IsAlone(state, worker, key)) checkpoints.emplace(key.job_id, key.attempt, key.step);
  }
  return static_cast<int64_t>(checkpoints.size());
}

void TellLeaves(Call* call) {
  State& state = call->state();
  if (!std::exchange(state.recheck_leaves, false)) return;
  for (const std::string& name : state.takers.stopping()) {
    WorkerRecord& worker = state.workers.at(name);
    const v1::Leave leave = IsWaitedFor(state, worker) ? v1::LEAVE_LATER : v1::LEAVE_NOW;
    if (std::exchange(worker.leave, leave) == leave) continue;
    worker.only_copies = OnlyCopies(state, worker);
    call->Touch(&worker);
  }
}

void SayGoodbye(Call* call, WorkerRecord* worker) {
  PlanCopies(call);  // what this one was to fetch may have another taker
  call->state().recheck_commits = true;
  SettleCommits(call);
  EndLease(call, worker, WorkerNote::Kind::kLeft);
  const std::map<int32_t, RankKey> assigned = worker->assigned;
  for (const auto& [slot, key] : assigned) {
    JobRecord* record = call->state().Find(key.job_id);
    if (record->attempt.has_value() && record->job.attempt() == key.attempt) {
      CheckAttempt(call, record);
    }
  }
}

void EndLease(Call* call, WorkerRecord* worker, WorkerNote::Kind kind) {
  worker->alive = false;
  worker->lost_at = call->now().monotonic;
  call->state().recheck_leaves = true;
  call->NoteWorker(kind, *worker);
  call->RefreshPool(*worker);
  PreferHoldersThatStay(call, worker->name);
  NoteThinOf(call, worker->name);
}

}  // namespace sinkforge::server
