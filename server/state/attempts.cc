// The life of an attempt; see attempts.h.
#include "server/state/attempts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "server/state/avoidance.h"
#include "server/state/checkpoints.h"
#include "server/state/commits.h"
#include "server/state/fault_text.h"
#include "server/state/job_moves.h"
#include "server/state/rank_report.h"
#include "server/state/retry.h"
#include "server/state/stops.h"
#include "server/state/sweeps.h"
#include "server/state/waiting.h"

namespace sinkforge::server {
namespace {

std::string PlacementText(const JobRecord& record) {
  std::string text;
  for (const v1::RankPlacement& rank : record.job.placement()) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", rank.worker(), " slot ", rank.slot());
  }
  return text;
}

void ReleaseRank(Call* call, const RankKey& key, const RankState& rank) {
  WorkerRecord* worker = call->state().FindWorker(rank.placement.worker());
  if (worker == nullptr || worker->incarnation != rank.placement.incarnation()) return;
  const auto assigned = worker->assigned.find(rank.placement.slot());
  SINKFORGE_REQUIRE(assigned != worker->assigned.end() && assigned->second == key);
  worker->assigned.erase(assigned);
  call->state().recheck_leaves = true;
  call->Touch(worker);
  if (!rank.ended()) {
    worker->removals.push_back({key, rank.placement.slot(), worker->revision, rank.seen});
  }
  call->RefreshPool(*worker);
}

// The attempt is about to end: its slots count for nobody.
void Vacate(State* state, const JobRecord& record) {
  const v1::Job& job = record.job;
  state->active.erase(record.number);
  state->cluster.running.Remove(record.number);
  state->cluster.shares.Use(job.spec().namespace_(), job.spec().resources().device(),
                            -WorldSize(job));
  NoteLeft(state, record);
}

// A slow network, over which a new attempt reads what it starts from.
constexpr int64_t kRestoreBytesPerSecond = 10'000'000;
constexpr std::chrono::hours kRestoreMax(24);

// How much longer an attempt may take to start because of its checkpoint.
Monotonic RestoreTimeOf(const v1::Job& job) {
  const v1::Checkpoint* newest = NewestCheckpoint(job);
  if (newest == nullptr) return Monotonic{0};
  // Sizes are what workers say: any number.
  return std::chrono::seconds(std::clamp<int64_t>(newest->bytes() / kRestoreBytesPerSecond, 0,
                                                  std::chrono::seconds(kRestoreMax).count()));
}

// The worker of the rank that holds the others up; empty where nothing points at one.
std::string SlowestWorker(const Attempt& attempt) {
  const auto slower = [](const RankState& a, const RankState& b) {
    return std::make_pair(a.phase, a.step) < std::make_pair(b.phase, b.step);
  };
  const auto [slowest, fastest] =
      std::minmax_element(attempt.ranks.begin(), attempt.ranks.end(), slower);
  const bool tells = attempt.ranks.size() == 1 || slower(*slowest, *fastest);
  return tells ? slowest->placement.worker() : "";
}

// What "every rank ended as asked" means for the job.
void Finish(Call* call, JobRecord* record) {
  const auto& ranks = record->attempt->ranks;
  int64_t step = 0;
  bool completed = true;
  for (const RankState& rank : ranks) {
    step = std::max(step, rank.step);
    completed = completed && rank.outcome == v1::RANK_OUTCOME_COMPLETED;
  }
  // Its last checkpoint waits for a second copy: this is called again when that is over.
  if (record->commit_deadlines.contains(step)) {
    if (record->job.has_copy_start_time()) return;
    *record->job.mutable_copy_start_time() = base::ToProto(call->now().wall);
    call->Store(*record);
    return;
  }
  const v1::Checkpoint* newest = NewestCheckpoint(record->job);
  if (step > 0 && (newest == nullptr || newest->step() < step)) {
    FailAttempt(call, record, v1::REASON_TRAINER_CRASHED,
                absl::StrCat("every rank ended, but the checkpoint of step ", step,
                             " is not complete on their workers"),
                "");
    return;
  }
  if (completed) {
    const std::string message = absl::StrCat("all steps done; final checkpoint: step ", step);
    EndAttempt(call, record, v1::REASON_COMPLETED, message);
    record->job.set_pause_requested(false);
    call->Move(record, v1::JOB_STATE_SUCCEEDED, v1::REASON_COMPLETED, message);
    return;
  }
  if (record->job.pause_requested() && record->job.stop_reason() != v1::REASON_DEADLINE_EXCEEDED) {
    const std::string message = absl::StrCat("paused after step ", step, "; `sinkforge resume ",
                                             record->job.job_id(), "` goes on from there");
    EndAttempt(call, record, v1::REASON_PAUSE_REQUESTED, message);
    BecomePaused(call, record, message);
    return;
  }
  if (record->job.stop_reason() != v1::REASON_UNSPECIFIED) {
    EndStopped(call, record, step);
    return;
  }
  const bool drained = IsToStop(call->state(), *record);
  // A pause that was taken back may have stopped the ranks all the same. Either way the budget
  // counts it, so that a trainer that stops unasked cannot go round for ever.
  const v1::Reason reason = drained ? v1::REASON_WORKER_DRAINING : v1::REASON_RESUMED_BY_USER;
  const std::string message = absl::StrCat(
      drained ? "its worker drains" : "the pause was taken back", "; goes on from step ", step);
  const RetryDecision decision =
      CountFailure(FaultKind::kInfrastructure, call->options(), record->job.mutable_retries());
  EndAttempt(call, record, reason, message);
  if (decision.retry) {
    Requeue(call, record, reason, message, decision.delay);
  } else {
    call->Move(record, v1::JOB_STATE_FAILED, v1::REASON_RETRIES_EXHAUSTED,
               ExhaustedText(record->job, decision, message));
  }
}

// The rank whose end explains the attempt's best: the cause rather than its consequences.
const RankState* CauseOf(const Attempt& attempt) {
  const RankState* cause = nullptr;
  const auto weight = [](const RankState& rank) {
    const FaultKind kind = KindOf(rank.reason);
    if (kind == FaultKind::kFatal || kind == FaultKind::kUnfitWorker) return 2;
    return rank.reason == v1::REASON_RANK_LOST ? 0 : 1;
  };
  for (const RankState& rank : attempt.ranks) {
    if (!rank.ended() || rank.outcome == v1::RANK_OUTCOME_COMPLETED ||
        rank.outcome == v1::RANK_OUTCOME_STOPPED) {
      continue;
    }
    if (cause == nullptr || weight(rank) > weight(*cause)) cause = &rank;
  }
  return cause;
}

// The rank that the attempt ends by, for the log: the one that failed, or whose worker is gone.
EventPlace PlaceOfEnd(const State& state, const Attempt& attempt) {
  const RankState* rank = CauseOf(attempt);
  for (const RankState& other : attempt.ranks) {
    if (rank != nullptr) break;
    const WorkerRecord* worker = state.FindWorker(other.placement.worker());
    const bool is_gone =
        worker == nullptr || !worker->alive || worker->incarnation != other.placement.incarnation();
    if (is_gone) rank = &other;
  }
  if (rank == nullptr) return {};
  return {rank->placement.worker(), rank->placement.rank()};
}

bool AllEnded(const Attempt& attempt) {
  return std::all_of(attempt.ranks.begin(), attempt.ranks.end(),
                     [](const RankState& rank) { return rank.ended(); });
}

// A rank that lost its peers waits a moment for the peer that knows why.
bool WaitsForCause(Call* call, Attempt* attempt, const RankState& cause) {
  if (cause.reason != v1::REASON_RANK_LOST || AllEnded(*attempt)) return false;
  if (!attempt->cause_deadline.has_value()) {
    attempt->cause_deadline = call->now().monotonic + 2 * call->options().snapshot_interval;
  }
  return call->now().monotonic < *attempt->cause_deadline;
}

struct BadBatch {
  v1::Reason reason = v1::REASON_UNSPECIFIED;
  int64_t steps_done = 0;  // before the step that failed
  std::string message;
};

// The batch of that step is passed over from now on. Skipped ones before it count.
void SkipBatch(Call* call, JobRecord* record, const BadBatch& bad) {
  v1::Job& job = record->job;
  std::vector<int64_t> skipped(job.skipped_batches().begin(), job.skipped_batches().end());
  int64_t batch = bad.steps_done;
  for (const int64_t earlier : skipped) batch += earlier <= batch ? 1 : 0;
  skipped.insert(std::lower_bound(skipped.begin(), skipped.end(), batch), batch);
  job.mutable_skipped_batches()->Assign(skipped.begin(), skipped.end());
  const v1::Checkpoint* newest = NewestCheckpoint(job);
  const int64_t step = newest == nullptr ? 0 : newest->step();
  call->AddEvent(record, {v1::EVENT_KIND_ROLLED_BACK, bad.reason,
                          absl::StrCat(bad.message, "; back to ",
                                       step == 0 ? std::string("the beginning")
                                                 : absl::StrCat("the checkpoint of step ", step),
                                       ", and on without batch ", batch),
                          step});
}

void NoteTraining(Call* call, JobRecord* record) {
  const RankState& first = record->attempt->ranks[0];
  const bool trains = first.phase == v1::RANK_PHASE_TRAINING || first.step > 0 ||
                      (first.ended() && first.outcome == v1::RANK_OUTCOME_COMPLETED);
  if (trains && record->job.state() == v1::JOB_STATE_STARTING) {
    record->attempt->last_progress = call->now().monotonic;
    const bool pauses = record->job.pause_requested();
    call->Move(record, v1::JOB_STATE_RUNNING,
               pauses ? v1::REASON_PAUSE_REQUESTED : v1::REASON_TRAINING,
               absl::StrCat("trains on ", PlacementText(*record),
                            pauses ? ", until its checkpoint before the pause" : ""));
  }
  if (first.step > 0 && !record->job.has_start_time()) {
    *record->job.mutable_start_time() = base::ToProto(call->now().wall);
    call->Store(*record);
  }
}

}  // namespace

void Requeue(Call* call, JobRecord* record, v1::Reason reason, const std::string& message,
             Monotonic delay) {
  if (delay > Monotonic{0}) {
    *record->job.mutable_not_before() = base::ToProto(
        call->now().wall + std::chrono::duration_cast<std::chrono::system_clock::duration>(delay));
  }
  call->Move(record, v1::JOB_STATE_QUEUED, reason, message);
  StartWaiting(call, record, call->now().monotonic + delay);
}

void BecomePaused(Call* call, JobRecord* record, const std::string& message) {
  record->job.set_pause_requested(false);
  call->Move(record, v1::JOB_STATE_PAUSED, v1::REASON_PAUSED_BY_USER, message);
}

void StartAttempt(Call* call, JobRecord* record, const AttemptPlan& plan) {
  v1::Job& job = record->job;
  GiveUpPending(call, record);
  job.set_attempt(std::max(job.attempt(), record->later_attempt) + 1);
  job.set_world_size(static_cast<int32_t>(plan.placement.size()));
  job.set_lent_from(plan.lent_from);
  job.clear_placement();
  job.clear_rank_notes();
  job.clear_not_before();
  record->attempt.emplace();
  record->attempt->started = call->now().monotonic;
  record->attempt->last_progress = call->now().monotonic;
  for (const v1::RankPlacement& rank : plan.placement) {
    *job.add_placement() = rank;
    record->attempt->ranks.emplace_back().placement = rank;
    WorkerRecord* worker = call->state().FindWorker(rank.worker());
    SINKFORGE_REQUIRE(worker != nullptr && worker->incarnation == rank.incarnation());
    const RankKey key{job.job_id(), job.attempt(), rank.rank()};
    SINKFORGE_REQUIRE(worker->assigned.emplace(rank.slot(), key).second);
    call->Touch(worker);
    call->RefreshPool(*worker);
  }
  Occupy(&call->state(), *record, call->now());
  const std::string where = absl::StrCat(PlacementText(*record), plan.note.empty() ? "" : " (",
                                         plan.note, plan.note.empty() ? "" : ")");
  call->Move(record, v1::JOB_STATE_STARTING, v1::REASON_SCHEDULED,
             absl::StrCat("starts on ", where));
  const v1::Checkpoint* restore = RestoreOf(job);
  const int64_t step = restore == nullptr ? 0 : restore->step();
  call->AddEvent(record, {v1::EVENT_KIND_ATTEMPT_STARTED, v1::REASON_SCHEDULED,
                          step == 0 ? absl::StrCat("on ", where, ", from the beginning")
                                    : absl::StrCat("on ", where, ", from step ", step),
                          step});
}

void Occupy(State* state, const JobRecord& record, const base::Now& now) {
  const v1::Job& job = record.job;
  state->active.insert(record.number);
  scheduler::RunningJob running;
  running.job_id = job.job_id();
  running.key = KeyOf(record);
  running.device = job.spec().resources().device();
  running.name_space = job.spec().namespace_();
  running.ranks = WorldSize(job);
  running.ranks_wanted = std::max(1, job.spec().resources().ranks());
  running.stopping = job.stop_reason() != v1::REASON_UNSPECIFIED;
  running.lent_from = job.lent_from();
  running.unfit = AvoidedAt(job, now, Avoidance::kUnfit);
  running.started = running.safe_until = record.attempt->started;
  state->cluster.shares.Use(running.name_space, running.device, running.ranks);
  state->cluster.running.Add(running);
}

void EndAttempt(Call* call, JobRecord* record, v1::Reason reason, const std::string& message) {
  SINKFORGE_REQUIRE(record->attempt.has_value());
  v1::Job& job = record->job;
  CommitBeforeTheEnd(call, record);
  call->AddEvent(record, {v1::EVENT_KIND_ATTEMPT_ENDED, reason, message, job.progress().step(),
                          PlaceOfEnd(call->state(), *record->attempt)});
  for (const RankState& rank : record->attempt->ranks) {
    ReleaseRank(call, {job.job_id(), job.attempt(), rank.placement.rank()}, rank);
  }
  Vacate(&call->state(), *record);
  record->attempt.reset();
  job.clear_placement();
  job.clear_lent_from();
  job.clear_stop_reason();
  job.clear_stop_message();
  job.mutable_progress()->clear_eta();
}

void FailAttempt(Call* call, JobRecord* record, v1::Reason reason, const std::string& message,
                 std::string worker) {
  if (reason == v1::REASON_CHECKPOINT_LOST) LoseRestore(call, record, message);
  FaultKind kind = KindOf(reason, record->job.spec());
  const bool never_trained =
      record->job.state() == v1::JOB_STATE_STARTING && kind != FaultKind::kInfrastructure;
  const bool is_overdue = record->job.stop_reason() == v1::REASON_DEADLINE_EXCEEDED;
  EndAttempt(call, record, reason, message);
  // A bad batch is bad everywhere.
  if (kind != FaultKind::kFatal && kind != FaultKind::kBadBatch) {
    const bool is_unfit = never_trained || kind == FaultKind::kUnfitWorker;
    Avoid(call, record, worker, is_unfit ? Avoidance::kUnfit : Avoidance::kLastChoice);
  }
  if (kind == FaultKind::kUnfitWorker && !FitsElsewhere(call->state(), record->job, call->now())) {
    kind = FaultKind::kFatal;
  }
  if (is_overdue && kind != FaultKind::kFatal) {
    record->job.set_pause_requested(false);
    call->Move(record, v1::JOB_STATE_FAILED, v1::REASON_DEADLINE_EXCEEDED,
               DeadlineText(record->job));
    return;
  }
  if (kind == FaultKind::kFatal) {
    record->job.set_pause_requested(false);
    call->Move(record, v1::JOB_STATE_FAILED, reason, FatalText(record->job, reason, message));
    return;
  }
  if (record->job.pause_requested()) {
    BecomePaused(call, record, PausedByFaultText(record->job, message));
    return;
  }
  const RetryDecision decision = CountFailure(kind, call->options(), record->job.mutable_retries());
  if (decision.retry) {
    Requeue(call, record, reason, RetryText(decision, message), decision.delay);
  } else if (kind == FaultKind::kUnfitWorker) {
    call->Move(record, v1::JOB_STATE_FAILED, reason, FatalText(record->job, reason, message));
  } else {
    call->Move(record, v1::JOB_STATE_FAILED, v1::REASON_RETRIES_EXHAUSTED,
               ExhaustedText(record->job, decision, message));
  }
}

void UpdateRank(Call* call, JobRecord* record, const v1::RankStatus& status) {
  RankState& rank = record->attempt->ranks[static_cast<size_t>(status.rank())];
  if (rank.ended()) return;
  rank.seen = true;
  const bool is_held = status.phase() != v1::RANK_PHASE_ENDED && !status.message().empty();
  if (status.phase() != rank.phase || status.step() > rank.step || is_held) {
    record->attempt->last_progress = call->now().monotonic;
  }
  std::string held = is_held ? HeldText(status, rank.placement.worker()) : "";
  if (held != rank.message) call->Watch(*record);
  rank.message = std::move(held);
  rank.phase = status.phase();
  rank.step = std::max(rank.step, status.step());
  if (rank.ended()) {
    const WorkerRecord* worker = call->state().FindWorker(rank.placement.worker());
    rank.outcome = status.outcome();
    rank.reason = FaultOf(status, worker->snapshot.draining());
    rank.message = FaultText(status, rank.placement.worker());
  }
  NoteReport(call, record, status);
}

void EvaluateAttempt(Call* call, JobRecord* record) {
  if (!record->attempt.has_value()) return;
  NoteTraining(call, record);
  if (const RankState* cause = CauseOf(*record->attempt); cause != nullptr) {
    if (WaitsForCause(call, &*record->attempt, *cause)) return;
    const v1::Reason reason = cause->reason;
    const std::string message = reason == v1::REASON_NON_FINITE_LOSS
                                    ? absl::StrCat("the loss of step ", cause->step + 1,
                                                   " is not finite (", cause->message, ")")
                                    : cause->message;
    if (KindOf(reason, record->job.spec()) == FaultKind::kBadBatch) {
      CommitBeforeTheEnd(call, record);  // it may be what the job goes back to
      SkipBatch(call, record, {reason, cause->step, message});
    }
    FailAttempt(call, record, reason, message, cause->placement.worker());
    return;
  }
  if (AllEnded(*record->attempt)) Finish(call, record);
}

void CheckAttempt(Call* call, JobRecord* record) {
  const Attempt& attempt = *record->attempt;
  for (const RankState& rank : attempt.ranks) {
    const std::string& name = rank.placement.worker();
    const WorkerRecord* worker = call->state().FindWorker(name);
    if (worker != nullptr && worker->incarnation != rank.placement.incarnation()) {
      FailAttempt(call, record, v1::REASON_WORKER_LOST,
                  absl::StrCat("worker ", name, " was started anew"), "");
      return;
    }
    if (worker != nullptr && worker->left()) {
      FailAttempt(call, record, v1::REASON_WORKER_DRAINING,
                  absl::StrCat("worker ", name, " was stopped"), "");
      return;
    }
    if (worker == nullptr || !worker->alive) {
      FailAttempt(call, record, v1::REASON_WORKER_LOST,
                  absl::StrCat("worker ", name, " has not been heard of for ",
                               SecondsText(call->options().lease)),
                  name);
      return;
    }
  }
  const Monotonic now = call->now().monotonic;
  if (attempt.cause_deadline.has_value() && now >= *attempt.cause_deadline) {
    EvaluateAttempt(call, record);
    return;
  }
  const Monotonic start_timeout = call->options().start_timeout + RestoreTimeOf(record->job);
  if (record->job.state() == v1::JOB_STATE_STARTING && now - attempt.started >= start_timeout) {
    FailAttempt(call, record, v1::REASON_START_TIMEOUT,
                absl::StrCat("did not start to train within ", SecondsText(start_timeout)),
                SlowestWorker(attempt));
  } else if (record->job.state() == v1::JOB_STATE_RUNNING &&
             now - attempt.last_progress >= call->options().no_progress_timeout) {
    FailAttempt(call, record, v1::REASON_NO_PROGRESS,
                absl::StrCat("no progress for ", SecondsText(call->options().no_progress_timeout),
                             " after step ", record->job.progress().step()),
                SlowestWorker(attempt));
  }
}

void TouchRanks(Call* call, const JobRecord& record) {
  for (const v1::RankPlacement& rank : record.job.placement()) call->Touch(rank.worker());
}

}  // namespace sinkforge::server
