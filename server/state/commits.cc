// Pending checkpoints and their commit; see commits.h.
#include "server/state/commits.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/state/attempts.h"
#include "server/state/checkpoints.h"
#include "server/state/copies.h"
#include "server/state/fault_text.h"
#include "server/state/time_ledger.h"
#include "server/state/waiting.h"

namespace sinkforge::server {
namespace {

// A slow network: with a faster one, a copy is there before its time is over.
constexpr int64_t kCopyBytesPerSecond = 100'000'000;
// Whoever pauses the job, or waits for its slots, does not wait longer than for any other stop.
constexpr std::chrono::seconds kPatienceMax(120);

Monotonic PatienceFor(const CoordinatorOptions& options, const v1::Checkpoint& checkpoint) {
  // Sizes are what workers say: any number.
  const int64_t seconds =
      std::clamp<int64_t>(checkpoint.bytes() / kCopyBytesPerSecond, 0, kPatienceMax.count());
  return std::min<Monotonic>(options.commit_patience + std::chrono::seconds(seconds), kPatienceMax);
}

void StopWaiting(State* state, JobRecord* record, int64_t step) {
  const auto deadline = record->commit_deadlines.find(step);
  if (deadline == record->commit_deadlines.end()) return;
  state->commits.erase({deadline->second, record->number, step});
  record->commit_deadlines.erase(deadline);
}

void StopAllWaiting(State* state, JobRecord* record) {
  while (!record->commit_deadlines.empty()) {
    StopWaiting(state, record, record->commit_deadlines.begin()->first);
  }
}

// Every rank's part of (last attempt, step) is durable: from now on it is what the job goes on
// from. `note`: why it is on one worker only, if that is worth a word.
void Commit(Call* call, JobRecord* record, int64_t step, const std::string& note) {
  v1::Job& job = record->job;
  int64_t step_before = 0;
  for (const v1::Checkpoint& earlier : job.checkpoints()) {
    step_before = std::max(step_before, earlier.step());
  }
  v1::Checkpoint* checkpoint = job.add_checkpoints();
  *checkpoint = PendingCheckpoint(call->state(), *record, step);
  *checkpoint->mutable_commit_time() = base::ToProto(call->now().wall);
  checkpoint->set_train_seconds(TrainedSeconds(job, call->now().wall));
  // Parts of this and of earlier steps can never be committed any more.
  while (!record->pending.empty() && record->pending.begin()->first <= step) {
    StopWaiting(&call->state(), record, record->pending.begin()->first);
    record->pending.erase(record->pending.begin());
  }
  // Durable progress: whatever failed before is forgiven.
  if (step > step_before) job.clear_retries();
  if (CatchUpProgress(job, job.mutable_progress())) {
    *job.mutable_progress()->mutable_update_time() = base::ToProto(call->now().wall);
  }
  IndexCheckpoint(&call->state(), *record, *checkpoint);
  call->state().cluster.running.SetSafe(record->number, call->now().monotonic);
  const std::vector<std::string> holders = HoldersOf(*checkpoint);
  call->AddEvent(record,
                 {v1::EVENT_KIND_CHECKPOINT_COMMITTED, v1::REASON_UNSPECIFIED,
                  absl::StrCat("checkpoint of step ", step, ": ", checkpoint->bytes(), " bytes on ",
                               absl::StrJoin(holders, ", "), note.empty() ? "" : "; ", note),
                  step});
  // Who copied it need not know: that would be another message for every commit.
  for (const std::string& holder : FirstHoldersOf(*checkpoint)) call->Touch(holder);
  NoteThin(call, *record);
  RetainCheckpoints(call, record);
  RefreshWaiting(call, record);
}

enum class Verdict {
  kWait,
  kCopied,     // it is on two workers
  kNotCopied,  // nobody fetches it, and waiting would change nothing
  kLeaves,     // its worker does
  kEnded,      // its attempt has
  kLate,       // the time is over
};

// Every worker that alone has a part has been heard of since then. Committed after its death, a
// checkpoint would bind the job to it.
bool AreHoldersHeard(const State& state, const v1::Checkpoint& checkpoint, Monotonic since) {
  std::map<int32_t, int> copies;
  for (const v1::CheckpointPart& copy : checkpoint.copies()) ++copies[copy.rank()];
  return std::all_of(checkpoint.parts().begin(), checkpoint.parts().end(), [&](const auto& part) {
    if (copies[part.rank()] > 0) return true;
    const WorkerRecord* holder = state.FindWorker(part.worker());
    return holder != nullptr && IsHeard(*holder, since);
  });
}

bool MayBeCommitted(const Call& call, const State& state, const v1::Checkpoint& checkpoint) {
  return IsReadable(state, checkpoint) && AreHoldersHeard(state, checkpoint, LatelyOf(call));
}

Verdict Judge(const Call& call, const State& state, const JobRecord& record,
              const v1::Checkpoint& checkpoint) {
  // Without its worker the attempt ends, and the checkpoint before this one is to be had sooner.
  if (!MayBeCommitted(call, state, checkpoint)) return Verdict::kWait;
  if (!IsThin(checkpoint)) return Verdict::kCopied;
  if (!record.attempt.has_value()) return Verdict::kEnded;
  // What it has said was its last word.
  if (HasHolderThatLeft(state, checkpoint)) return Verdict::kLeaves;
  const bool is_fetched = IsBeingCopied(state, checkpoint);
  const bool may_come =
      is_fetched || std::any_of(state.expected.begin(), state.expected.end(),
                                [&](const auto& name) { return IsExpected(state, name); });
  if (!may_come) return Verdict::kNotCopied;
  const Monotonic deadline = record.commit_deadlines.at(checkpoint.step());
  if (call.now().monotonic < deadline) return Verdict::kWait;
  if (!is_fetched) return Verdict::kNotCopied;
  return AreHoldersHeard(state, checkpoint, deadline) ? Verdict::kLate : Verdict::kWait;
}

// On one worker it is what is normal for a cluster of one.
std::string NoteOf(const State& state, Verdict verdict) {
  if (state.takers.count() < kCheckpointHolders && verdict != Verdict::kLeaves) return "";
  switch (verdict) {
    case Verdict::kNotCopied:
      return "no other worker can take a copy now";
    case Verdict::kLeaves:
      return "without a second copy, because its worker was stopped";
    case Verdict::kEnded:
      return "without a second copy, because its attempt has ended";
    case Verdict::kWait:
    case Verdict::kCopied:
    case Verdict::kLate:
      break;
  }
  return "";
}

// Workers that are to fetch a part of the checkpoint.
std::vector<std::string> CopiersOf(const State& state, const v1::Checkpoint& checkpoint) {
  std::vector<std::string> copiers;
  for (const auto& [name, worker] : state.workers) {
    const bool copies = std::any_of(
        checkpoint.parts().begin(), checkpoint.parts().end(),
        [&, &copying = worker.copying](const auto& part) {
          return copying.contains({part.job_id(), part.attempt(), part.step(), part.rank()});
        });
    if (copies) copiers.push_back(name);
  }
  return copiers;
}

void WarnOfLateCopy(Call* call, JobRecord* record, const v1::Checkpoint& checkpoint) {
  const std::vector<std::string> copiers = CopiersOf(call->state(), checkpoint);
  call->AddEvent(record,
                 {v1::EVENT_KIND_WARNING, v1::REASON_UNSPECIFIED,
                  absl::StrCat("the checkpoint of step ", checkpoint.step(),
                               " is committed with one copy: ", absl::StrJoin(copiers, ", "),
                               " has not made the second within ",
                               SecondsText(PatienceFor(call->options(), checkpoint)),
                               " (its log may say why), and goes on trying"),
                  checkpoint.step()});
}

// Everything up to `step`: a later commit would forbid those of the steps before it, of which some
// are to be kept for long.
void CommitUpTo(Call* call, JobRecord* record, int64_t step, Verdict verdict) {
  const std::map<int64_t, Monotonic> deadlines = record->commit_deadlines;
  for (const auto& [earlier, deadline] : deadlines) {
    if (earlier > step) break;
    const v1::Checkpoint checkpoint = PendingCheckpoint(call->state(), *record, earlier);
    if (!MayBeCommitted(*call, call->state(), checkpoint)) continue;
    Commit(call, record, earlier, IsThin(checkpoint) ? NoteOf(call->state(), verdict) : "");
    if (verdict == Verdict::kLate && earlier == step) WarnOfLateCopy(call, record, checkpoint);
  }
}

void SettleJob(Call* call, JobRecord* record) {
  const State& state = call->state();
  bool committed = false;
  const std::map<int64_t, Monotonic> deadlines = record->commit_deadlines;
  for (const auto& [step, deadline] : deadlines) {
    const Verdict verdict = Judge(*call, state, *record, PendingCheckpoint(state, *record, step));
    if (verdict != Verdict::kWait) {
      CommitUpTo(call, record, step, verdict);
      committed = true;
    } else if (record->attempt.has_value() && call->now().monotonic < deadline) {
      break;  // one that was copied sooner would take it along without its second copy
    }
  }
  if (!record->attempt.has_value()) {
    StopAllWaiting(&call->state(), record);
  } else if (committed) {
    EvaluateAttempt(call, record);  // its ranks may have ended, and it waited for nothing else
  }
}

// The attempt got further than any before, so that what failed before it is forgiven. Should its
// worker be lost before the copy, the next one does not wait longer because of that.
void Forgive(Call* call, JobRecord* record, int64_t step) {
  const v1::Checkpoint* newest = NewestCheckpoint(record->job);
  const int64_t step_before = newest == nullptr ? 0 : newest->step();
  if (step <= std::max(record->complete_step_max, step_before)) return;
  record->complete_step_max = step;
  if (!record->job.has_retries()) return;
  record->job.clear_retries();
  call->Store(*record);
}

// Every rank's part is durable on some worker, and another one has it now.
void NoteComplete(Call* call, JobRecord* record, int64_t step) {
  State& state = call->state();
  state.commits_to_check.insert(record->number);
  NoteThin(call, *record);  // also for the other parts: they may find a taker now
  if (record->commit_deadlines.contains(step)) return;
  const Monotonic deadline =
      call->now().monotonic + PatienceFor(call->options(), PendingCheckpoint(state, *record, step));
  record->commit_deadlines.emplace(step, deadline);
  state.commits.emplace(deadline, record->number, step);
  call->Watch(*record);
  Forgive(call, record, step);
}

}  // namespace

void TakePendingPart(Call* call, const PartKey& key, const v1::CheckpointPart& part) {
  JobRecord* record = call->state().Find(key.job_id);
  const int world_size = WorldSize(record->job);
  if (part.world_size() != world_size || key.rank < 0 || key.rank >= world_size) return;
  auto& parts = record->pending[key.step];
  std::vector<v1::CheckpointPart>& holders = parts[key.rank];
  const auto known = std::find_if(holders.begin(), holders.end(), [&](const auto& other) {
    return other.worker() == part.worker();
  });
  const bool is_new = known == holders.end();
  if (is_new) {
    holders.push_back(part);
  } else {
    *known = part;
  }
  const bool is_complete = static_cast<int>(parts.size()) == world_size;
  // The same again, as every worker says every second, changes nothing.
  if (!is_complete || (!is_new && record->commit_deadlines.contains(key.step))) return;
  NoteComplete(call, record, key.step);
}

void LosePendingPart(Call* call, const std::string& worker, const PartKey& key) {
  JobRecord* record = call->state().Find(key.job_id);
  if (record == nullptr || record->job.attempt() != key.attempt) return;
  const auto at_step = record->pending.find(key.step);
  if (at_step == record->pending.end()) return;
  const auto holders = at_step->second.find(key.rank);
  if (holders == at_step->second.end()) return;
  std::erase_if(holders->second, [&](const auto& part) { return part.worker() == worker; });
  if (!holders->second.empty()) {
    if (record->commit_deadlines.contains(key.step)) NoteThin(call, *record);
    return;
  }
  StopWaiting(&call->state(), record, key.step);  // it is not complete any more
  at_step->second.erase(holders);
  if (at_step->second.empty()) record->pending.erase(at_step);
}

v1::Checkpoint PendingCheckpoint(const State& state, const JobRecord& record, int64_t step) {
  v1::Checkpoint checkpoint;
  const auto pending = record.pending.find(step);
  if (pending == record.pending.end()) return checkpoint;
  checkpoint.set_step(step);
  checkpoint.set_attempt(record.job.attempt());
  int64_t bytes = 0;
  for (const auto& [rank, holders] : pending->second) {
    const auto staying = std::find_if(holders.begin(), holders.end(), [&](const auto& part) {
      return Stays(state, part.worker());
    });
    const auto serving = std::find_if(holders.begin(), holders.end(), [&](const auto& part) {
      return IsServing(state, part.worker());
    });
    const auto first = staying != holders.end()   ? staying
                       : serving != holders.end() ? serving
                                                  : holders.begin();
    *checkpoint.add_parts() = *first;
    for (auto other = holders.begin(); other != holders.end(); ++other) {
      if (other != first) *checkpoint.add_copies() = *other;
    }
    bytes += first->bytes();
  }
  checkpoint.set_bytes(bytes);
  checkpoint.set_loss(checkpoint.parts(0).loss());
  checkpoint.set_imbalance(checkpoint.parts(0).imbalance());
  if (checkpoint.parts(0).has_validation_loss()) {
    checkpoint.set_validation_loss(checkpoint.parts(0).validation_loss());
  }
  return checkpoint;
}

void CheckCommits(Call* call) {
  State& state = call->state();
  const Monotonic now = call->now().monotonic;
  if (!state.expected.empty() && now >= state.expected_until) {
    const std::set<std::string> expected = std::exchange(state.expected, {});
    for (const std::string& name : expected) {
      if (!IsServing(state, name)) PreferHoldersThatStay(call, name);
    }
    state.plan_copies = true;
    state.recheck_commits = true;
    state.recheck_leaves = true;
  }
  for (const auto& [deadline, number, step] : state.commits) {
    if (deadline > now) break;
    state.commits_to_check.insert(number);
  }
}

void PostponeCommits(State* state, Monotonic duration) {
  state->commits.clear();
  for (auto& [number, record] : state->jobs) {
    for (auto& [step, deadline] : record.commit_deadlines) {
      deadline += duration;
      state->commits.emplace(deadline, number, step);
    }
  }
}

void SettleCommits(Call* call) {
  State& state = call->state();
  if (std::exchange(state.recheck_commits, false)) {
    for (const auto& [deadline, number, step] : state.commits) {
      state.commits_to_check.insert(number);
    }
  }
  const std::set<int64_t> numbers = std::exchange(state.commits_to_check, {});
  for (const int64_t number : numbers) {
    const auto job = state.jobs.find(number);
    if (job != state.jobs.end()) SettleJob(call, &job->second);
  }
}

void CommitBeforeTheEnd(Call* call, JobRecord* record) {
  CommitUpTo(call, record, INT64_MAX, Verdict::kEnded);
  StopAllWaiting(&call->state(), record);
}

void GiveUpPending(Call* call, JobRecord* record) {
  const v1::Checkpoint* newest = NewestCheckpoint(record->job);
  for (const auto& [step, parts] : record->pending) {
    if (static_cast<int>(parts.size()) < WorldSize(record->job)) continue;
    const v1::Checkpoint checkpoint = PendingCheckpoint(call->state(), *record, step);
    std::vector<std::string> away = FirstHoldersOf(checkpoint);
    std::erase_if(away, [&](const auto& name) { return IsServing(call->state(), name); });
    call->AddEvent(
        record, {v1::EVENT_KIND_WARNING, v1::REASON_CHECKPOINT_LOST,
                 absl::StrCat("the checkpoint of step ", step,
                              " is given up: it had no second copy yet, and worker ",
                              absl::StrJoin(away, ", "), " is away; ",
                              newest == nullptr ? std::string("the job starts from the beginning")
                                                : absl::StrCat("step ", newest->step(), " counts")),
                 step});
  }
  StopAllWaiting(&call->state(), record);
  record->pending.clear();
}

std::string CommitWaitText(const State& state, const JobRecord& record, const base::Now& now) {
  if (record.commit_deadlines.empty()) return "";
  const auto& [step, deadline] = *record.commit_deadlines.rbegin();
  const std::vector<std::string> copiers = CopiersOf(state, PendingCheckpoint(state, record, step));
  const auto left =
      std::chrono::ceil<std::chrono::seconds>(std::max(Monotonic{0}, deadline - now.monotonic));
  return absl::StrCat("the checkpoint of step ", step, " waits for its second copy",
                      copiers.empty() ? "" : ", on ", absl::StrJoin(copiers, ", "),
                      ", for at most ", left.count(), " s more");
}

}  // namespace sinkforge::server
