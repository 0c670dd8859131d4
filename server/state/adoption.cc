// Adoption of later attempts; see adoption.h.
#include "server/state/adoption.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/state/attempts.h"
#include "server/state/commits.h"
#include "server/state/copies.h"
#include "server/state/fault_text.h"
#include "server/state/waiting.h"

namespace sinkforge::server {
namespace {

// Workers say any number. One that is further ahead than any backup is old is not believed.
constexpr int64_t kAheadMax = 1'000'000;

bool IsAhead(int64_t number, int64_t known) {
  return number > known && number - known <= kAheadMax;
}

// A job that was submitted after the backup is unknown for ever, but its number is taken: another
// job of that name and number would meet its checkpoints.
void NoteJobNumber(Call* call, const std::string& job_id) {
  State& state = call->state();
  const int64_t number = Coordinator::NumberOf(job_id);
  if (!IsAhead(number, state.next_job_number - 1)) return;
  state.next_job_number = number + 1;
  call->StoreNextJobNumber();
}

bool IsOver(const v1::Job& job) {
  return job.state() == v1::JOB_STATE_SUCCEEDED || job.state() == v1::JOB_STATE_CANCELLED;
}

int64_t NewestStep(const v1::Job& job) {
  const v1::Checkpoint* newest = NewestCheckpoint(job);
  return newest == nullptr ? 0 : newest->step();
}

// An attempt that this coordinator has started is worth more than what is older than the job's
// newest checkpoint. One from the store is over: the later one came after it.
bool IsWorthEnding(const JobRecord& record, int64_t step) {
  if (!record.attempt.has_value() || record.attempt->loaded) return true;
  return step > NewestStep(record.job);
}

void OpenAdoption(Call* call, JobRecord* record, const std::string& worker, int64_t attempt) {
  record->adoption = call->now().monotonic + call->options().lease;
  call->state().adoptions.insert(record->number);
  if (!record->attempt.has_value()) {
    RefreshWaiting(call, record);
    return;
  }
  const std::string message = absl::StrCat(
      "worker ", worker, " has checkpoints of attempt ", attempt,
      ", of which this coordinator knows nothing: it was restored from an older backup");
  EndAttempt(call, record, v1::REASON_RANK_LOST, message);
  if (record->job.pause_requested()) {
    BecomePaused(call, record, PausedByFaultText(record->job, message));
  } else {
    Requeue(call, record, v1::REASON_RANK_LOST, message, call->options().lease);
  }
}

struct LaterParts {
  std::map<int64_t, std::vector<v1::CheckpointPart>> by_attempt;
  bool is_complete = true;  // no worker that has some is about to be lost
};

LaterParts PartsOfLaterAttempts(const Call& call, const State& state, const v1::Job& job) {
  LaterParts later;
  for (const auto& [name, worker] : state.workers) {
    const PartKey first{job.job_id(), job.attempt() + 1, 0, 0};
    for (auto it = worker.parts.lower_bound(first);
         it != worker.parts.end() && it->first.job_id == job.job_id(); ++it) {
      if (!IsAhead(it->first.attempt, job.attempt())) break;
      later.by_attempt[it->first.attempt].push_back(it->second.part);
      if (worker.alive && !IsHeard(worker, LatelyOf(call))) later.is_complete = false;
    }
  }
  return later;
}

// The parts become pending ones of the job's last attempt, as if it had run here.
void TakeAttempt(Call* call, JobRecord* record, int64_t attempt,
                 const std::vector<v1::CheckpointPart>& parts) {
  GiveUpPending(call, record);  // of the attempt before
  v1::Job& job = record->job;
  job.set_attempt(attempt);
  job.set_world_size(
      std::clamp(parts[0].world_size(), 1, std::max(1, job.spec().resources().ranks())));
  const int64_t newest = NewestStep(job);
  for (const v1::CheckpointPart& part : parts) {
    if (part.step() <= newest || part.step() > job.spec().train().steps()) continue;
    TakePendingPart(call, {part.job_id(), attempt, part.step(), part.rank()}, part);
  }
  CommitBeforeTheEnd(call, record);
  call->Store(*record);
}

void Adopt(Call* call, JobRecord* record) {
  const LaterParts later = PartsOfLaterAttempts(*call, call->state(), record->job);
  if (!later.is_complete) {  // it reports, or its lease ends
    record->adoption = call->now().monotonic + call->options().snapshot_interval;
    RefreshWaiting(call, record);
    return;
  }
  record->adoption.reset();
  call->state().adoptions.erase(record->number);
  if (IsOver(record->job)) return;
  const int64_t attempt_before = record->job.attempt();
  for (const auto& [attempt, parts] : later.by_attempt) TakeAttempt(call, record, attempt, parts);
  std::vector<int64_t> steps;
  for (const v1::Checkpoint& checkpoint : record->job.checkpoints()) {
    if (checkpoint.attempt() > attempt_before && !checkpoint.deleting())
      steps.push_back(checkpoint.step());
  }
  call->AddEvent(
      record,
      {v1::EVENT_KIND_WARNING, v1::REASON_UNSPECIFIED,
       absl::StrCat(
           "workers have checkpoints of attempts after ", attempt_before,
           ", the last that this coordinator knew of, as it was restored from an older backup; ",
           steps.empty() ? std::string("none is whole and newer than what it has")
                         : absl::StrCat("adopted: steps ", absl::StrJoin(steps, ", "))),
       NewestStep(record->job)});
}

}  // namespace

void NoteLaterAttempts(Call* call, const WorkerRecord& worker) {
  State& state = call->state();
  // A worker that has a part does not write another one of the same job, attempt, step and rank.
  for (const StrayCheckpoint& stray : worker.strays) {
    JobRecord* record = state.Find(stray.job_id);
    if (!IsAhead(stray.attempt, record->job.attempt())) continue;
    record->later_attempt = std::max(record->later_attempt, stray.attempt);
  }
  for (const v1::RankStatus& rank : worker.snapshot.ranks()) {
    JobRecord* record = state.Find(rank.job_id());
    if (record == nullptr) {
      NoteJobNumber(call, rank.job_id());
    } else if (IsAhead(rank.attempt(), record->job.attempt())) {
      record->later_attempt = std::max(record->later_attempt, rank.attempt());
    }
  }
  const std::set<PartKey> unsettled = worker.unsettled;  // what ends an attempt adds to it
  for (const PartKey& key : unsettled) {
    JobRecord* record = state.Find(key.job_id);
    if (record == nullptr) {
      NoteJobNumber(call, key.job_id);
      continue;
    }
    if (!IsAhead(key.attempt, record->job.attempt()) || IsOver(record->job)) continue;
    record->later_attempt = std::max(record->later_attempt, key.attempt);
    if (record->adoption.has_value() || !IsWorthEnding(*record, key.step)) continue;
    OpenAdoption(call, record, worker.name, key.attempt);
  }
}

void AdoptLaterAttempts(Call* call) {
  State& state = call->state();
  const std::set<int64_t> numbers = state.adoptions;
  for (const int64_t number : numbers) {
    const auto job = state.jobs.find(number);
    if (job == state.jobs.end()) {
      state.adoptions.erase(number);
    } else if (call->now().monotonic >= *job->second.adoption) {
      Adopt(call, &job->second);
    }
  }
}

}  // namespace sinkforge::server
