// Checkpoint bookkeeping; see checkpoints.h.
#include "server/state/checkpoints.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "server/state/adoption.h"
#include "server/state/commits.h"
#include "server/state/copies.h"
#include "server/state/job_moves.h"
#include "server/state/time_ledger.h"
#include "server/state/waiting.h"

namespace sinkforge::server {
namespace {

v1::Checkpoint* FindCheckpoint(JobRecord* record, int64_t attempt, int64_t step) {
  for (v1::Checkpoint& checkpoint : *record->job.mutable_checkpoints()) {
    if (checkpoint.attempt() == attempt && checkpoint.step() == step) return &checkpoint;
  }
  return nullptr;
}

void Unindex(State* state, const CheckpointKey& key, const std::string& holder) {
  const auto it = state->held.find(holder);
  if (it == state->held.end()) return;
  it->second.erase(key);
  if (it->second.empty()) state->held.erase(it);
}

void PartAppeared(Call* call, WorkerRecord* worker, const PartKey& key,
                  const v1::CheckpointPart& part) {
  EndCopy(&call->state(), worker, key);
  switch (FateOf(call->state(), key)) {
    case PartFate::kCommitted:
      return TakeCopy(call, worker->name, key, part);
    case PartFate::kPending:
      // Those of later attempts wait until they are adopted.
      if (key.attempt > call->state().Find(key.job_id)->job.attempt()) return;
      return TakePendingPart(call, key, part);
    case PartFate::kDrop:
      return;
  }
}

void NoteLost(Call* call, JobRecord* record, v1::Checkpoint* checkpoint,
              const std::string& message) {
  const int64_t step = checkpoint->step();
  record->lost.emplace(checkpoint->attempt(), step);
  MarkDeleting(call, record, checkpoint);
  GoBackToNewest(&record->job);
  const v1::Checkpoint* next = NewestCheckpoint(record->job);
  call->AddEvent(
      record,
      {v1::EVENT_KIND_WARNING, v1::REASON_CHECKPOINT_LOST,
       absl::StrCat("the checkpoint of step ", step, " is lost (", message, "); ",
                    next != nullptr ? absl::StrCat("step ", next->step(), " counts now")
                    : IsFinal(record->job.state()) ? std::string("there is no other")
                    : record->adoption.has_value()
                        ? std::string("workers have some of a later attempt, which will count")
                        : std::string("there is no other, so that it starts from the beginning")),
       step});
  RefreshWaiting(call, record);
}

// What a worker says it holds no more is taken out of a checkpoint's parts.
struct GoneParts {
  bool lost = false;        // a part that nobody else has
  bool any = false;         // a part or a copy
  bool holds_more = false;  // the worker still has another one
  std::string remaining;    // for people: who has what the worker has not
};

void NoteRemaining(const v1::CheckpointPart& part, std::string* text) {
  absl::StrAppend(text, text->empty() ? "" : ", ", "rank ", part.rank(), " on ", part.worker());
}

GoneParts TakeOut(const State& state, const WorkerRecord& worker, const CheckpointKey& key,
                  const std::string& job_id, v1::Checkpoint* checkpoint) {
  GoneParts gone;
  CheckpointParts* parts = checkpoint->mutable_parts();
  CheckpointParts* copies = checkpoint->mutable_copies();
  const auto is_gone = [&](const v1::CheckpointPart& part) {
    if (part.worker() != worker.name) return false;
    if (!worker.parts.contains({job_id, key.attempt, key.step, part.rank()})) return true;
    gone.holds_more = true;
    return false;
  };
  for (int i = copies->size() - 1; i >= 0; --i) {
    if (!is_gone(copies->Get(i))) continue;
    gone.any = true;
    for (const v1::CheckpointPart& part : *parts) {
      if (part.rank() == copies->Get(i).rank()) NoteRemaining(part, &gone.remaining);
    }
    copies->DeleteSubrange(i, 1);
  }
  for (int i = parts->size() - 1; i >= 0; --i) {
    if (!is_gone(parts->Get(i))) continue;
    gone.any = true;
    const auto has_rank = [&](const auto& other) { return other.rank() == parts->Get(i).rank(); };
    const auto staying = std::find_if(copies->begin(), copies->end(), [&](const auto& other) {
      return has_rank(other) && Stays(state, other.worker());
    });
    const auto copy =
        staying != copies->end() ? staying : std::find_if(copies->begin(), copies->end(), has_rank);
    if (copy == copies->end()) {
      gone.lost = true;
      parts->DeleteSubrange(i, 1);
      continue;
    }
    NoteRemaining(*copy, &gone.remaining);
    parts->Mutable(i)->Swap(&*copy);
    copies->erase(copy);
  }
  return gone;
}

// How it became known that a worker has a checkpoint no more.
enum class Gone { kReported, kGivenUp };

std::string LossText(const std::string& worker, Gone how) {
  return how == Gone::kReported ? absl::StrCat("worker ", worker, " has it no more")
                                : absl::StrCat("worker ", worker, " was given up by the user");
}

std::string CopyLossText(const std::string& worker, int64_t step, Gone how) {
  return how == Gone::kReported
             ? absl::StrCat("worker ", worker, " has the checkpoint of step ", step, " no more")
             : absl::StrCat("worker ", worker, ", which had the checkpoint of step ", step,
                            ", was given up by the user");
}

// Compares one committed checkpoint with what its holder has. True where it is lost by that.
bool CheckHeld(Call* call, const WorkerRecord& worker, const CheckpointKey& key, Gone how) {
  JobRecord& record = call->state().jobs.at(key.number);
  v1::Checkpoint* checkpoint = FindCheckpoint(&record, key.attempt, key.step);
  SINKFORGE_REQUIRE(checkpoint != nullptr);
  const GoneParts gone = TakeOut(call->state(), worker, key, record.job.job_id(), checkpoint);
  if (!gone.any) return false;
  call->Store(record);
  NoteThin(call, record);
  const bool is_lost = !checkpoint->deleting() && gone.lost;
  if (is_lost) {
    NoteLost(call, &record, checkpoint, LossText(worker.name, how));
  } else if (!checkpoint->deleting() && !gone.remaining.empty()) {
    call->AddEvent(&record, {v1::EVENT_KIND_WARNING, v1::REASON_CHECKPOINT_LOST,
                             absl::StrCat(CopyLossText(worker.name, key.step, how),
                                          "; what counts now: ", gone.remaining),
                             key.step});
    RefreshWaiting(call, &record);
  }
  if (!gone.holds_more) Unindex(&call->state(), key, worker.name);
  if (!checkpoint->parts().empty() || !checkpoint->copies().empty()) return is_lost;
  auto* checkpoints = record.job.mutable_checkpoints();
  for (int i = 0; i < checkpoints->size(); ++i) {
    if (&checkpoints->Get(i) != checkpoint) continue;
    checkpoints->DeleteSubrange(i, 1);
    break;
  }
  // A late report, on its way since before the drop, brings it back no more than one that was lost;
  // a later one of its attempt would be its fence.
  const v1::Checkpoint* newest = NewestCheckpoint(record.job);
  if (newest == nullptr || newest->attempt() < key.attempt || newest->step() < key.step) {
    record.lost.emplace(key.attempt, key.step);
  }
  call->AddEvent(&record, {v1::EVENT_KIND_CHECKPOINT_DELETED, v1::REASON_UNSPECIFIED,
                           absl::StrCat("checkpoint of step ", key.step, " is deleted"), key.step});
  return is_lost;
}

PartKey KeyOfPart(const v1::CheckpointPart& part) {
  return {part.job_id(), part.attempt(), part.step(), part.rank()};
}

// Two reports of one part by one worker.
bool IsSame(const v1::CheckpointPart& a, const v1::CheckpointPart& b) {
  return a.world_size() == b.world_size() && a.bytes() == b.bytes() && a.loss() == b.loss() &&
         a.imbalance() == b.imbalance() && a.has_validation_loss() == b.has_validation_loss() &&
         a.validation_loss() == b.validation_loss();
}

// The worker's parts become those that it reports; returns those that it has no more.
std::vector<PartKey> ReplaceParts(const State& state, WorkerRecord* worker,
                                  const CheckpointParts& reported) {
  const int64_t report = ++worker->part_reports;
  size_t count = 0;
  worker->strays.clear();
  const JobRecord* record = nullptr;  // of the part before: a worker names a job's one by one
  for (const v1::CheckpointPart& part : reported) {
    if (record == nullptr || record->job.job_id() != part.job_id()) {
      record = state.Find(part.job_id());
    }
    if (record != nullptr && !MayBeOf(record->job, part)) {
      worker->strays.insert({part.job_id(), part.attempt(), part.step(), part.job_uid()});
      continue;
    }
    const PartKey key = KeyOfPart(part);
    HeldPart& held = worker->parts[key];
    count += held.report == report ? 0 : 1;
    if (held.report == 0 || !IsSame(held.part, part)) {
      held.part = part;
      held.part.set_worker(worker->name);  // A worker speaks for itself alone.
      worker->unsettled.insert(key);
    }
    held.report = report;
  }
  std::vector<PartKey> gone;
  if (count == worker->parts.size()) return gone;
  for (auto it = worker->parts.begin(); it != worker->parts.end();) {
    if (it->second.report == report) {
      ++it;
      continue;
    }
    gone.push_back(it->first);
    worker->unsettled.erase(it->first);
    it = worker->parts.erase(it);
  }
  return gone;
}

// The committed checkpoints that list the worker: all, or those of `gone`.
std::set<CheckpointKey> HeldToCheck(const State& state, const std::string& worker, Report report,
                                    const std::vector<PartKey>& gone) {
  const auto held = state.held.find(worker);
  if (held == state.held.end()) return {};
  if (report == Report::kFirst) return held->second;
  std::set<CheckpointKey> keys;
  for (const PartKey& part : gone) {
    const CheckpointKey key{Coordinator::NumberOf(part.job_id), part.attempt, part.step};
    if (held->second.contains(key)) keys.insert(key);
  }
  return keys;
}

// The checkpoint, which is committed, says that the worker has the part.
bool IsListed(const State& state, const std::string& worker, const PartKey& key) {
  const auto is_it = [&](const v1::CheckpointPart& part) {
    return part.worker() == worker && part.rank() == key.rank;
  };
  for (const v1::Checkpoint& checkpoint : state.Find(key.job_id)->job.checkpoints()) {
    if (checkpoint.attempt() != key.attempt || checkpoint.step() != key.step) continue;
    return std::any_of(checkpoint.parts().begin(), checkpoint.parts().end(), is_it) ||
           std::any_of(checkpoint.copies().begin(), checkpoint.copies().end(), is_it);
  }
  return false;
}

// The parts that the checkpoint lists are not committed any more.
void Unsettle(State* state, const v1::Checkpoint& checkpoint) {
  for (const CheckpointParts* parts : {&checkpoint.parts(), &checkpoint.copies()}) {
    for (const v1::CheckpointPart& part : *parts) {
      WorkerRecord* worker = state->FindWorker(part.worker());
      if (worker == nullptr || !worker->parts.contains(KeyOfPart(part))) continue;
      worker->unsettled.insert(KeyOfPart(part));
    }
  }
}

// Less is better: first those that were validated, by that loss; then the others, by their batch's.
std::tuple<bool, double, int64_t> Merit(const v1::Checkpoint& checkpoint) {
  const bool validated = checkpoint.has_validation_loss();
  const double loss = validated ? checkpoint.validation_loss() : checkpoint.loss();
  constexpr double kWorst = std::numeric_limits<double>::infinity();
  return {!validated, std::isnan(loss) ? kWorst : loss, checkpoint.step()};
}

// Steps that checkpoint.keep_best and keep_every hold on to.
std::set<int64_t> ChosenSteps(const v1::Job& job) {
  const v1::CheckpointSpec& spec = job.spec().checkpoint();
  std::vector<std::tuple<bool, double, int64_t>> by_merit;
  std::set<int64_t> chosen;
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    if (checkpoint.deleting()) continue;
    by_merit.push_back(Merit(checkpoint));
    if (spec.keep_every() > 0 && checkpoint.step() % spec.keep_every() == 0) {
      chosen.insert(checkpoint.step());
    }
  }
  std::sort(by_merit.begin(), by_merit.end());
  for (size_t i = 0; i < by_merit.size() && static_cast<int>(i) < spec.keep_best(); ++i) {
    chosen.insert(std::get<int64_t>(by_merit[i]));
  }
  return chosen;
}

}  // namespace

void TakeParts(Call* call, WorkerRecord* worker, Report report, const CheckpointParts& reported) {
  const State& state = call->state();
  const std::vector<PartKey> gone = ReplaceParts(state, worker, reported);
  NoteLaterAttempts(call, *worker);  // what is missing below may have made room for them
  for (const CheckpointKey& key : HeldToCheck(state, worker->name, report, gone)) {
    CheckHeld(call, *worker, key, Gone::kReported);
  }
  for (const PartKey& key : gone) LosePendingPart(call, worker->name, key);
  // Also those that were there before: a part may become committable later than it appeared.
  bool has_drops = !worker->strays.empty();
  const std::set<PartKey> unsettled = worker->unsettled;
  for (const PartKey& key : unsettled) {
    PartAppeared(call, worker, key, worker->parts.at(key).part);
    const PartFate fate = FateOf(state, key);
    has_drops = has_drops || fate == PartFate::kDrop;
    if (fate == PartFate::kCommitted && IsListed(state, worker->name, key)) {
      worker->unsettled.erase(key);
    }
  }
  // Said again until the worker has done it.
  if (has_drops) call->Touch(worker);
}

int64_t LoseHolder(Call* call, const std::string& worker) {
  State& state = call->state();
  if (WorkerRecord* record = state.FindWorker(worker); record != nullptr) {
    for (const auto& [key, part] : std::exchange(record->parts, {})) {
      LosePendingPart(call, worker, key);
    }
    record->unsettled.clear();
  }
  const auto held = state.held.find(worker);
  if (held == state.held.end()) return 0;
  WorkerRecord nothing;
  nothing.name = worker;
  int64_t lost = 0;
  const std::set<CheckpointKey> keys = held->second;
  for (const CheckpointKey& key : keys) {
    lost += CheckHeld(call, nothing, key, Gone::kGivenUp) ? 1 : 0;
  }
  return lost;
}

void LoseRestore(Call* call, JobRecord* record, const std::string& message) {
  const v1::Checkpoint* restore = RestoreOf(record->job);
  if (restore == nullptr) return;
  NoteLost(call, record, FindCheckpoint(record, restore->attempt(), restore->step()), message);
}

bool CatchUpProgress(const v1::Job& job, v1::JobProgress* progress) {
  const v1::Checkpoint* newest = NewestCheckpoint(job);
  if (newest == nullptr || progress->step() >= newest->step()) return false;
  progress->set_step(newest->step());
  progress->set_loss(newest->loss());
  progress->set_imbalance(newest->imbalance());
  if (progress->steps_total() == 0) progress->set_steps_total(job.spec().train().steps());
  return true;
}

void RetainCheckpoints(Call* call, JobRecord* record) {
  const int keep = std::max(1, record->job.spec().checkpoint().keep());
  bool doubled = call->state().takers.count() <
                 kCheckpointHolders;  // a checkpoint that is kept has two holders
  int kept = 0;
  const std::set<int64_t> chosen = ChosenSteps(record->job);
  auto* checkpoints = record->job.mutable_checkpoints();
  for (int i = checkpoints->size() - 1; i >= 0; --i) {
    v1::Checkpoint* checkpoint = checkpoints->Mutable(i);
    if (checkpoint->deleting()) continue;
    const bool thin = IsThin(*checkpoint);
    const bool wanted = ++kept <= keep || chosen.contains(checkpoint->step());
    if (!wanted && (doubled || thin)) {
      MarkDeleting(call, record, checkpoint);
    } else {
      doubled = doubled || !thin;
    }
  }
}

void MarkDeleting(Call* call, JobRecord* record, v1::Checkpoint* checkpoint) {
  checkpoint->set_deleting(true);
  Unsettle(&call->state(), *checkpoint);
  call->Store(*record);
  for (const std::string& holder : HoldersOf(*checkpoint)) call->Touch(holder);
}

void IndexCheckpoint(State* state, const JobRecord& record, const v1::Checkpoint& checkpoint) {
  for (const std::string& holder : HoldersOf(checkpoint)) {
    state->held[holder].insert({record.number, checkpoint.attempt(), checkpoint.step()});
  }
}

void UnindexJob(Call* call, const JobRecord& record) {
  for (const v1::Checkpoint& checkpoint : record.job.checkpoints()) {
    Unsettle(&call->state(), checkpoint);
    for (const std::string& holder : HoldersOf(checkpoint)) {
      Unindex(&call->state(), {record.number, checkpoint.attempt(), checkpoint.step()}, holder);
      call->Touch(holder);
    }
  }
}

}  // namespace sinkforge::server
