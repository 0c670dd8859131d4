// Waiting jobs; see waiting.h.
#include "server/state/waiting.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "server/scheduler/explain.h"
#include "server/scheduler/scheduler.h"
#include "server/state/attempts.h"
#include "server/state/avoidance.h"
#include "server/state/stops.h"
#include "server/state/sweeps.h"

namespace sinkforge::server {
namespace {

scheduler::WaitingJob Describe(const JobRecord& record, const base::Now& now) {
  scheduler::WaitingJob waiting;
  waiting.job_id = record.job.job_id();
  waiting.key = KeyOf(record);
  waiting.name_space = record.job.spec().namespace_();
  waiting.device = record.job.spec().resources().device();
  waiting.ranks = std::max(1, record.job.spec().resources().ranks());
  waiting.min_ranks = LeastRanks(record.job.spec());
  if (const v1::Checkpoint* checkpoint = NewestCheckpoint(record.job); checkpoint != nullptr) {
    waiting.holders = FirstHoldersOf(*checkpoint);
  }
  waiting.avoided = AvoidedAt(record.job, now, Avoidance::kLastChoice);
  waiting.unfit = AvoidedAt(record.job, now, Avoidance::kUnfit);
  return waiting;
}

void JoinQueue(Call* call, JobRecord* record) {
  record->waiting = Waiting::kReady;
  call->state().cluster.queue.Add(record->waiting_job);
}

void BecomeReady(Call* call, JobRecord* record) {
  if (AdmitToSweep(call, record)) {
    JoinQueue(call, record);
  } else {
    record->waiting = Waiting::kHeldBySweep;
  }
}

// It leads the queue no more: who runs on slots that were its own may keep them.
void GiveLentAway(Call* call, const JobRecord& record) {
  State& state = call->state();
  for (const int64_t number : state.cluster.running.GiveAway(record.job.job_id())) {
    JobRecord& borrower = state.jobs.at(number);
    borrower.job.clear_lent_from();
    call->Store(borrower);
  }
}

// The reason is stored only when it changes its kind: the numbers in the message would be another
// write at every start and end of a job.
void KeepReason(Call* call, JobRecord* record, v1::Reason reason, const std::string& message) {
  if (record->job.reason() == reason) return;
  record->job.set_reason(reason);
  record->job.set_message(message);
  call->Store(*record);
}

void Park(Call* call, JobRecord* record, const scheduler::Decision& decision) {
  StopWaiting(call, record);
  record->waiting = Waiting::kParked;
  record->parked_on = decision.missing;
  for (const std::string& holder : record->parked_on) {
    call->state().parked[holder].insert(record->number);
  }
  KeepReason(call, record, decision.reason, decision.message);
}

constexpr std::chrono::seconds kStepBackFor(5);

// Who comes behind it may have what it does not want.
void StepBack(Call* call, JobRecord* record) {
  StopWaiting(call, record);
  StartWaiting(call, record, call->now().monotonic + kStepBackFor);
}

void Evict(Call* call, const scheduler::Decision& decision) {
  // The decision points into the queue, which changes when a victim waits again.
  const std::string head = decision.job->job_id;
  for (const scheduler::Victim& victim : decision.victims) {
    JobRecord* record = &call->state().jobs.at(victim.number);
    if (victim.how == scheduler::Eviction::kAtOnce) {
      TakeBack(call, record, absl::StrCat("ran on slots of ", head, ", which can use them now"));
    } else {
      RequestStop(call, record, decision.reason, decision.message);
    }
  }
}

// Empty where it avoids none, or has no choice.
std::string AvoidanceText(const State& state, const JobRecord& record, const base::Now& now) {
  const std::vector<std::string> unfit = AvoidedAt(record.job, now, Avoidance::kUnfit);
  if (unfit.empty() || !FitsElsewhere(state, record.job, now)) return "";
  return absl::StrCat(", not on ", absl::StrJoin(unfit, ", "), ", where it failed");
}

// Its ranks have ended. Why they were asked to stop is still worth a word.
Explanation ExplainCopying(const v1::Job& job) {
  const bool was_asked = job.pause_requested() || job.stop_reason() != v1::REASON_UNSPECIFIED;
  return {v1::REASON_COPYING_LAST_CHECKPOINT,
          was_asked ? job.message() : std::string("its ranks have ended")};
}

// False when the device has nothing more to start.
bool ApplyNextDecision(Call* call, v1::Device device) {
  State& state = call->state();
  scheduler::PolicyOptions policy;
  policy.grow_after = state.options.grow_after;
  const scheduler::Decision decision =
      scheduler::Decide(state.cluster, device, policy, call->now().monotonic);
  if (decision.action == scheduler::Action::kNothing) return false;
  JobRecord* record = decision.job == nullptr ? nullptr : state.Find(decision.job->job_id);
  switch (decision.action) {
    case scheduler::Action::kStart:
      StopWaiting(call, record);
      StartAttempt(call, record, {decision.placement, decision.lent_from, decision.message});
      return true;
    case scheduler::Action::kEvict:
      Evict(call, decision);
      return true;
    case scheduler::Action::kGrow:
      RequestStop(call, &state.jobs.at(decision.victims[0].number), decision.reason,
                  decision.message);
      return true;
    case scheduler::Action::kPark:
      Park(call, record, decision);
      return true;
    case scheduler::Action::kStepBack:
      StepBack(call, record);
      return true;
    case scheduler::Action::kWait:
      KeepReason(call, record, decision.reason, decision.message);
      return false;
    case scheduler::Action::kNothing:
      break;
  }
  return false;
}

}  // namespace

scheduler::QueueKey KeyOf(const JobRecord& record) {
  scheduler::QueueKey key;
  key.priority = record.job.spec().priority();
  key.number = record.number;
  if (record.job.has_deadline()) key.deadline = record.job.deadline().seconds();
  return key;
}

void StartWaiting(Call* call, JobRecord* record, Monotonic not_before) {
  SINKFORGE_REQUIRE(record->waiting == Waiting::kNot);
  SINKFORGE_REQUIRE(record->job.state() == v1::JOB_STATE_QUEUED);
  record->waiting_job = Describe(*record, call->now());
  if (record->adoption.has_value()) not_before = std::max(not_before, *record->adoption);
  if (not_before <= call->now().monotonic) {
    BecomeReady(call, record);
    return;
  }
  record->waiting = Waiting::kBackingOff;
  record->not_before = not_before;
  call->state().backing_off.emplace(not_before, record->number);
}

void StopWaiting(Call* call, JobRecord* record) {
  State& state = call->state();
  switch (record->waiting) {
    case Waiting::kNot:
      return;
    case Waiting::kReady:
      state.cluster.queue.Remove(record->waiting_job);
      NoteLeft(&state, *record);
      break;
    case Waiting::kHeldBySweep:
      LeaveHold(&state, *record);
      break;
    case Waiting::kBackingOff:
      state.backing_off.erase({record->not_before, record->number});
      break;
    case Waiting::kParked:
      for (const std::string& holder : record->parked_on) {
        const auto it = state.parked.find(holder);
        it->second.erase(record->number);
        if (it->second.empty()) state.parked.erase(it);
      }
      record->parked_on.clear();
      break;
  }
  // Also where it did not lead the queue: before a restart of the coordinator it may have.
  GiveLentAway(call, *record);
  record->waiting = Waiting::kNot;
}

void RefreshWaiting(Call* call, JobRecord* record) {
  if (record->waiting == Waiting::kNot) return;
  const Monotonic not_before =
      record->waiting == Waiting::kBackingOff ? record->not_before : Monotonic{0};
  StopWaiting(call, record);
  StartWaiting(call, record, not_before);
}

void WakeBackedOff(Call* call) {
  State& state = call->state();
  while (!state.backing_off.empty() && state.backing_off.begin()->first <= call->now().monotonic) {
    JobRecord& record = state.jobs.at(state.backing_off.begin()->second);
    StopWaiting(call, &record);
    BecomeReady(call, &record);
  }
}

void WakeParked(Call* call, const std::string& holder) {
  State& state = call->state();
  const auto it = state.parked.find(holder);
  if (it == state.parked.end()) return;
  const std::set<int64_t> numbers = it->second;
  for (const int64_t number : numbers) {
    JobRecord& record = state.jobs.at(number);
    StopWaiting(call, &record);
    BecomeReady(call, &record);
  }
}

void RunScheduler(Call* call) {
  SettleSweeps(call, [call](JobRecord* record) { JoinQueue(call, record); });
  for (const v1::Device device : {v1::DEVICE_CPU, v1::DEVICE_CUDA}) {
    while (ApplyNextDecision(call, device)) {
    }
  }
}

Explanation ExplainJob(const State& state, const JobRecord& record, const base::Now& now) {
  switch (record.waiting) {
    case Waiting::kNot:
      if (record.attempt.has_value()) {
        for (const RankState& rank : record.attempt->ranks) {
          if (!rank.ended() && !rank.message.empty()) return {record.job.reason(), rank.message};
        }
      }
      if (record.job.has_copy_start_time()) return ExplainCopying(record.job);
      return {record.job.reason(), record.job.message()};
    case Waiting::kBackingOff: {
      const auto left = std::chrono::ceil<std::chrono::seconds>(
          std::max(Monotonic{0}, record.not_before - now.monotonic));
      return {v1::REASON_BACKING_OFF,
              absl::StrCat("tries again in ", left.count(), " s", AvoidanceText(state, record, now),
                           "; ", record.job.message())};
    }
    case Waiting::kHeldBySweep:
      return {v1::REASON_WAITING_FOR_SWEEP, SweepWaitText(state, record)};
    case Waiting::kReady:
    case Waiting::kParked:
      break;
  }
  const scheduler::Wait wait = scheduler::ExplainWait(state.cluster, record.waiting_job);
  return {wait.reason, wait.message};
}

v1::JobWait ExplainJobInFull(const State& state, const JobRecord& record) {
  v1::JobWait wait;
  switch (record.waiting) {
    case Waiting::kNot:
      return wait;
    case Waiting::kBackingOff:
      wait.add_would_run("the time until its next attempt; `sinkforge events` says what failed");
      return wait;
    case Waiting::kHeldBySweep: {
      const SweepGate& gate = state.sweeps.at(record.job.sweep());
      for (const auto& [key, number] : gate.held) {
        if (number == record.number) break;
        wait.set_ahead_count(wait.ahead_count() + 1);
        if (wait.ahead_size() < 5) wait.add_ahead(state.jobs.at(number).job.job_id());
      }
      wait.add_would_run("the end of a job of its sweep");
      return wait;
    }
    case Waiting::kParked:
      for (const std::string& holder : record.parked_on) {
        wait.add_would_run(absl::StrCat("worker ", holder,
                                        ", which holds its last checkpoint; or `sinkforge forget ",
                                        holder, "`, where it never comes back"));
      }
      return wait;
    case Waiting::kReady:
      break;
  }
  return scheduler::ExplainInFull(state.cluster, record.waiting_job);
}

}  // namespace sinkforge::server
