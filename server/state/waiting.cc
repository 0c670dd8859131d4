// Waiting jobs; see waiting.h.
#include "server/state/waiting.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "server/scheduler/scheduler.h"
#include "server/state/attempts.h"

namespace sinkforge::server {
namespace {

scheduler::WaitingJob Describe(const JobRecord& record) {
  scheduler::WaitingJob waiting;
  waiting.job_id = record.job.job_id();
  waiting.key = {record.job.spec().priority(), record.number};
  waiting.device = record.job.spec().resources().device();
  waiting.ranks = WorldSize(record.job);
  if (const v1::Checkpoint* checkpoint = NewestCheckpoint(record.job); checkpoint != nullptr) {
    waiting.holders = FirstHoldersOf(*checkpoint);
  }
  return waiting;
}

void BecomeReady(Call* call, JobRecord* record) {
  record->waiting = Waiting::kReady;
  call->state().queue.Add(record->waiting_job);
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

// False when the device has nothing more to start.
bool ApplyNextDecision(Call* call, v1::Device device) {
  State& state = call->state();
  const scheduler::Decision decision = scheduler::Decide(state.queue, state.pool, device);
  if (decision.action == scheduler::Action::kNothing) return false;
  JobRecord* record = state.Find(decision.job->job_id);
  SINKFORGE_REQUIRE(record != nullptr);
  switch (decision.action) {
    case scheduler::Action::kStart:
      StopWaiting(call, record);
      StartAttempt(call, record, decision.placement);
      return true;
    case scheduler::Action::kPark:
      Park(call, record, decision);
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

void StartWaiting(Call* call, JobRecord* record, Monotonic not_before) {
  SINKFORGE_REQUIRE(record->waiting == Waiting::kNot);
  SINKFORGE_REQUIRE(record->job.state() == v1::JOB_STATE_QUEUED);
  record->waiting_job = Describe(*record);
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
      state.queue.Remove(record->waiting_job);
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
  for (const v1::Device device : {v1::DEVICE_CPU, v1::DEVICE_CUDA}) {
    while (ApplyNextDecision(call, device)) {
    }
  }
}

Explanation ExplainJob(const State& state, const JobRecord& record, const base::Now& now) {
  switch (record.waiting) {
    case Waiting::kNot:
      return {record.job.reason(), record.job.message()};
    case Waiting::kBackingOff: {
      const auto left = std::chrono::ceil<std::chrono::seconds>(
          std::max(Monotonic{0}, record.not_before - now.monotonic));
      return {v1::REASON_BACKING_OFF,
              absl::StrCat("tries again in ", left.count(), " s; ", record.job.message())};
    }
    case Waiting::kReady:
    case Waiting::kParked:
      break;
  }
  const scheduler::Wait wait = scheduler::ExplainWait(state.queue, state.pool, record.waiting_job);
  return {wait.reason, wait.message};
}

}  // namespace sinkforge::server
