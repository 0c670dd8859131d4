// Workers on their way out; see leaving.h.
#include "server/state/leaving.h"

#include <algorithm>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "server/state/attempts.h"
#include "server/state/commits.h"
#include "server/state/copies.h"

namespace sinkforge::server {
namespace {

bool IsFetched(const State& state, const WorkerRecord& worker) {
  return std::any_of(state.copying.begin(), state.copying.end(), [&](const auto& copy) {
    const auto& [key, copier] = copy;
    return worker.parts.contains(key) && IsServing(state, copier) &&
           !IsElsewhere(state, key, worker.name);
  });
}

// After a restart: who could take a copy, or has it already, may not have come back yet.
bool MayBeFetched(const State& state, const WorkerRecord& worker) {
  return std::any_of(state.expected.begin(), state.expected.end(),
                     [&](const auto& name) { return !IsServing(state, name); }) &&
         OnlyCopies(state, worker) > 0;
}

}  // namespace

int64_t OnlyCopies(const State& state, const WorkerRecord& worker) {
  std::set<std::tuple<std::string, int64_t, int64_t>> checkpoints;
  for (const auto& [key, part] : worker.parts) {
    if (FateOf(state, key) == PartFate::kDrop || IsElsewhere(state, key, worker.name)) continue;
    checkpoints.emplace(key.job_id, key.attempt, key.step);
  }
  return static_cast<int64_t>(checkpoints.size());
}

void TellLeaves(Call* call) {
  State& state = call->state();
  if (!std::exchange(state.recheck_leaves, false)) return;
  for (const std::string& name : state.takers.stopping()) {
    WorkerRecord& worker = state.workers.at(name);
    const bool is_waited_for =
        !worker.assigned.empty() || IsFetched(state, worker) || MayBeFetched(state, worker);
    const v1::Leave leave = is_waited_for ? v1::LEAVE_LATER : v1::LEAVE_NOW;
    if (std::exchange(worker.leave, leave) != leave) call->Touch(&worker);
  }
}

void SayGoodbye(Call* call, WorkerRecord* worker) {
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
  PreferOtherHolders(call, worker->name);
  NoteThinOf(call, worker->name);
}

}  // namespace sinkforge::server
