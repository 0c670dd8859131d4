// Snapshots and leases; see worker_link.h. DesiredOf is in desired.cc.
#include "server/state/worker_link.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/state/attempts.h"
#include "server/state/checkpoints.h"
#include "server/state/copies.h"
#include "server/state/fault_text.h"
#include "server/state/leaving.h"
#include "server/state/snapshot_check.h"
#include "server/state/stops.h"
#include "server/state/waiting.h"

namespace sinkforge::server {
namespace {

constexpr size_t kRetiredMax = 16;  // incarnations remembered: zombies beyond have no stream left

// Room for one more worker, if need be in the place of the one that is away for the longest.
absl::Status MakeRoom(Call* call, const std::string& name) {
  State& state = call->state();
  if (static_cast<int>(state.workers.size()) < call->options().worker_count_max) {
    return absl::OkStatus();
  }
  auto oldest = state.workers.end();
  for (auto it = state.workers.begin(); it != state.workers.end(); ++it) {
    if (it->second.alive || !it->second.assigned.empty()) continue;
    if (oldest == state.workers.end() || it->second.lost_at < oldest->second.lost_at) oldest = it;
  }
  if (oldest == state.workers.end()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("worker ", name, ": ", state.workers.size(),
                     " workers are registered, the most this coordinator takes; stop one first"));
  }
  state.workers.erase(oldest);
  return absl::OkStatus();
}

// What the former incarnation ran is gone: a trainer dies with its daemon.
void ReplaceIncarnation(Call* call, WorkerRecord* worker, const std::string& incarnation) {
  worker->retired.push_back(worker->incarnation);
  if (worker->retired.size() > kRetiredMax) worker->retired.pop_front();
  worker->incarnation = incarnation;
  worker->report_sequence = -1;
  worker->reported = false;
  worker->snapshot.Clear();
  worker->leave = v1::LEAVE_UNSPECIFIED;
  worker->removals.clear();
  const std::map<int32_t, RankKey> assigned = std::exchange(worker->assigned, {});
  for (const auto& [slot, key] : assigned) {
    JobRecord* record = call->state().Find(key.job_id);
    // The attempt may have ended already with another rank of this worker.
    if (record != nullptr && record->attempt.has_value() && record->job.attempt() == key.attempt) {
      CheckAttempt(call, record);
    }
  }
}

absl::StatusOr<WorkerRecord*> Admit(Call* call, const v1::WorkerSnapshot& snapshot) {
  const std::string& name = snapshot.worker();
  WorkerRecord* worker = call->state().FindWorker(name);
  if (worker == nullptr) {
    const absl::Status room = MakeRoom(call, name);
    if (!room.ok()) return room;
    worker = &call->state().workers[name];
    worker->name = name;
    worker->incarnation = snapshot.incarnation();
    worker->drained = call->state().drains.contains(name);
    return worker;
  }
  if (worker->incarnation == snapshot.incarnation()) return worker;
  const bool was_replaced = std::find(worker->retired.begin(), worker->retired.end(),
                                      snapshot.incarnation()) != worker->retired.end();
  if (worker->alive && (worker->connected || was_replaced)) {
    return absl::AlreadyExistsError(absl::StrCat(
        "worker ", name, ": another live worker has this name",
        worker->snapshot.address().empty() ? ""
                                           : absl::StrCat(" (", worker->snapshot.address(), ")"),
        "; stop it, or start this one with another --name"));
  }
  ReplaceIncarnation(call, worker, snapshot.incarnation());
  return worker;
}

// Everybody's desired state names addresses of checkpoint holders: a new one must reach those who
// may still have to read from it.
void SpreadAddress(Call* call) {
  for (const int64_t number : call->state().active) {
    const JobRecord& record = call->state().jobs.at(number);
    if (record.job.state() == v1::JOB_STATE_STARTING) TouchRanks(call, record);
  }
}

// Slots whose former ranks are certainly gone are free again.
void SettleRemovals(WorkerRecord* worker) {
  std::map<RankKey, bool> runs;
  for (const v1::RankStatus& rank : worker->snapshot.ranks()) {
    runs[{rank.job_id(), rank.attempt(), rank.rank()}] = rank.phase() != v1::RANK_PHASE_ENDED;
  }
  std::erase_if(worker->removals, [&](Removal& removal) {
    const auto it = runs.find(removal.key);
    if (it != runs.end()) {
      removal.seen = true;
      return !it->second;
    }
    // Absent: gone if it ever was there, or if the worker knows that it is not to start it.
    return removal.seen || worker->snapshot.applied_desired_revision() >= removal.revision;
  });
}

const JobRecord* AttemptOf(const State& state, const v1::RankStatus& status,
                           const WorkerRecord& worker) {
  const JobRecord* record = state.Find(status.job_id());
  if (record == nullptr || !record->attempt.has_value()) return nullptr;
  if (record->job.attempt() != status.attempt()) return nullptr;
  const auto& ranks = record->attempt->ranks;
  if (status.rank() < 0 || static_cast<size_t>(status.rank()) >= ranks.size()) return nullptr;
  const v1::RankPlacement& placement = ranks[static_cast<size_t>(status.rank())].placement;
  return placement.worker() == worker.name && placement.slot() == status.slot() ? record : nullptr;
}

// A rank that the worker had reported and knows no more has ended without a word.
void CheckVanished(const WorkerRecord& worker, const RankKey& key, JobRecord* record) {
  RankState& rank = record->attempt->ranks[static_cast<size_t>(key.rank)];
  if (!rank.seen || rank.ended()) return;
  for (const v1::RankStatus& status : worker.snapshot.ranks()) {
    if (status.job_id() == key.job_id && status.attempt() == key.attempt &&
        status.rank() == key.rank) {
      return;
    }
  }
  rank.phase = v1::RANK_PHASE_ENDED;
  rank.outcome = v1::RANK_OUTCOME_FAILED;
  rank.reason = v1::REASON_TRAINER_CRASHED;
  rank.message = absl::StrCat("rank ", key.rank, " on ", worker.name,
                              ": its worker does not know it any more");
}

void TakeRanks(Call* call, WorkerRecord* worker) {
  State& state = call->state();
  bool must_answer = false;  // something to kill, or an end to acknowledge
  for (const v1::RankStatus& status : worker->snapshot.ranks()) {
    if (AttemptOf(state, status, *worker) == nullptr) {
      must_answer = true;
    } else {
      UpdateRank(call, state.Find(status.job_id()), status);
    }
  }
  const std::map<int32_t, RankKey> assigned = worker->assigned;
  for (const auto& [slot, key] : assigned) {
    JobRecord* record = state.Find(key.job_id);
    if (!record->attempt.has_value() || record->job.attempt() != key.attempt) continue;
    CheckVanished(*worker, key, record);
    EvaluateAttempt(call, record);
  }
  if (must_answer) call->Touch(worker);
}

v1::WorkerState StateOf(const WorkerRecord& worker, int64_t only_copies) {
  if (worker.left()) return v1::WORKER_STATE_STOPPED;
  if (!worker.alive) return v1::WORKER_STATE_LOST;
  if (!worker.leaving()) return v1::WORKER_STATE_LIVE;
  const bool is_idle = worker.assigned.empty() && worker.removals.empty();
  return worker.drained && is_idle && only_copies == 0 ? v1::WORKER_STATE_DRAINED
                                                       : v1::WORKER_STATE_DRAINING;
}

}  // namespace

absl::Status TakeSnapshot(Call* call, const v1::WorkerSnapshot& snapshot) {
  absl::Status valid = CheckSnapshot(snapshot, call->options());
  if (!valid.ok()) return valid;
  absl::StatusOr<WorkerRecord*> admitted = Admit(call, snapshot);
  if (!admitted.ok()) return admitted.status();
  WorkerRecord* worker = *admitted;
  if (snapshot.report_sequence() <= worker->report_sequence) return absl::OkStatus();

  const bool is_new = !worker->reported;
  const bool was_lost = !worker->alive;
  const bool drain_changed = worker->snapshot.draining() != snapshot.draining();
  const bool was_serving = worker->reported && worker->alive && !worker->snapshot.draining();
  worker->report_sequence = snapshot.report_sequence();
  if (!worker->connected) call->state().recheck_leaves = true;
  worker->reported = worker->connected = worker->alive = true;
  worker->lease_end = call->now().monotonic + call->options().lease;
  worker->heard = call->now().monotonic;
  worker->silent = false;
  worker->last_seen = call->now().wall;
  worker->snapshot = snapshot;
  worker->snapshot.clear_checkpoint_parts();  // kept in `parts`
  call->state().takers.Update(*worker);       // whose number decides what is retained below
  if (is_new || was_lost) {
    call->NoteWorker(is_new ? WorkerNote::Kind::kJoined : WorkerNote::Kind::kReturned, *worker);
  }
  // A former coordinator counted further: the worker ignores anything below.
  if (snapshot.applied_desired_revision() > worker->revision) {
    worker->revision = snapshot.applied_desired_revision();
    call->Touch(worker);
  } else if (snapshot.applied_desired_revision() < worker->revision) {
    call->Resend(*worker);
  }
  if (is_new) {
    call->Touch(worker);
    SpreadAddress(call);
  }

  TakeParts(call, worker, is_new ? Report::kFirst : Report::kLater, snapshot.checkpoint_parts());
  ForgetCopies(&call->state(), worker);
  NoteDisk(call, worker);
  SettleRemovals(worker);
  TakeRanks(call, worker);
  if (drain_changed) {
    call->state().recheck_leaves = true;
    for (const auto& [slot, key] : worker->assigned) {
      TouchRanks(call, *call->state().Find(key.job_id));
    }
  }
  call->RefreshPool(*worker);
  if (is_new || !was_serving || drain_changed) {
    NoteThinOf(call, worker->name);
    PreferHoldersThatStay(call, worker->name);
  }
  if (!was_serving && !snapshot.draining()) WakeParked(call, worker->name);
  if (snapshot.goodbye()) SayGoodbye(call, worker);
  return absl::OkStatus();
}

void CheckLeases(Call* call) {
  State& state = call->state();
  const Monotonic now = call->now().monotonic;
  for (auto& [name, worker] : state.workers) {
    if (worker.alive && !worker.silent && !worker.copying.empty() &&
        !IsHeard(worker, LatelyOf(*call))) {
      worker.silent = true;
      NoteCopier(call, worker);
    }
    if (worker.alive && now >= worker.lease_end) {
      EndLease(call, &worker, WorkerNote::Kind::kLost);
    }
  }
  const std::set<int64_t> active = state.active;
  for (const int64_t number : active) {
    JobRecord* record = &state.jobs.at(number);
    CheckAttempt(call, record);
    CheckStop(call, record);
  }
  std::erase_if(state.workers, [&](const auto& entry) {
    const WorkerRecord& worker = entry.second;
    if (worker.alive || !worker.assigned.empty()) return false;
    // One that was stopped is not lost: nobody needs to look for it. One that is only started anew
    // is back before its lease would have ended, and what it has is remembered until then.
    return worker.left() ? now >= worker.lease_end
                         : now - worker.lost_at >= call->options().forget_worker_after;
  });
}

void ExpectWorker(State* state, const v1::RankPlacement& placement, const base::Now& now) {
  WorkerRecord& worker = state->workers[placement.worker()];
  if (!worker.name.empty()) return;
  worker.name = placement.worker();
  worker.incarnation = placement.incarnation();
  worker.drained = state->drains.contains(worker.name);
  worker.lease_end = now.monotonic + state->options.lease;
}

v1::Worker DescribeSnapshot(const v1::WorkerSnapshot& snapshot,
                            std::chrono::system_clock::time_point seen) {
  v1::Worker worker;
  worker.set_worker(snapshot.worker());
  worker.set_incarnation(snapshot.incarnation());
  worker.set_state(v1::WORKER_STATE_LIVE);
  worker.set_address(snapshot.address());
  worker.set_metrics_address(snapshot.metrics_address());
  *worker.mutable_slots() = snapshot.slots();
  *worker.mutable_last_seen() = base::ToProto(seen);
  worker.set_version(snapshot.version());
  worker.set_processor(snapshot.processor());
  worker.set_disk_free_bytes(snapshot.disk_free_bytes());
  *worker.mutable_data_roots() = snapshot.data_roots();
  return worker;
}

v1::Worker Describe(const State& state, const WorkerRecord& record) {
  v1::Worker worker = DescribeSnapshot(record.snapshot, record.last_seen);
  worker.set_worker(record.name);
  worker.set_incarnation(record.incarnation);
  if (record.leaving() && (record.alive || record.left())) {
    worker.set_only_copies(OnlyCopies(state, record));
  }
  worker.set_state(StateOf(record, worker.only_copies()));
  const auto drain = state.drains.find(record.name);
  if (drain != state.drains.end()) *worker.mutable_drain() = drain->second;
  for (const auto& [slot, key] : record.assigned) {
    v1::SlotUse* use = worker.add_used();
    use->set_slot(slot);
    use->set_job_id(key.job_id);
    use->set_attempt(key.attempt);
    use->set_rank(key.rank);
  }
  return worker;
}

}  // namespace sinkforge::server
