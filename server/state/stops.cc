// Preemption, growth and deadlines; see stops.h.
#include "server/state/stops.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/state/attempts.h"
#include "server/state/commits.h"
#include "server/state/fault_text.h"
#include "server/state/job_moves.h"
#include "server/state/waiting.h"

namespace sinkforge::server {

void RequestStop(Call* call, JobRecord* record, v1::Reason reason, const std::string& message) {
  v1::Job& job = record->job;
  const bool is_deadline = reason == v1::REASON_DEADLINE_EXCEEDED;
  if (job.stop_reason() == reason) return;
  if (job.stop_reason() != v1::REASON_UNSPECIFIED && !is_deadline) return;
  job.set_stop_reason(reason);
  job.set_stop_message(message);
  job.set_reason(reason);
  job.set_message(absl::StrCat("checkpoints and stops: ", message));
  // Nobody waits for an attempt that grows.
  if (reason != v1::REASON_RESIZED) {
    record->attempt->stop_deadline = call->now().monotonic + call->options().stop_grace;
  }
  call->state().cluster.running.SetStopping(record->number, true);
  call->AddEvent(record, {v1::EVENT_KIND_STOP_REQUESTED, reason, message, job.progress().step()});
  TouchRanks(call, *record);
}

void TakeBack(Call* call, JobRecord* record, const std::string& message) {
  EndAttempt(call, record, v1::REASON_LENT_SLOTS_TAKEN_BACK, message);
  if (record->job.pause_requested()) {
    BecomePaused(call, record, message);
    return;
  }
  Requeue(call, record, v1::REASON_LENT_SLOTS_TAKEN_BACK, message, Monotonic{0});
}

void EndStopped(Call* call, JobRecord* record, int64_t step) {
  const v1::Reason reason = record->job.stop_reason();
  const std::string message =
      absl::StrCat(record->job.stop_message(), "; stopped after step ", step);
  EndAttempt(call, record, reason, message);
  if (reason == v1::REASON_DEADLINE_EXCEEDED) {
    record->job.set_pause_requested(false);
    call->Move(record, v1::JOB_STATE_FAILED, reason, DeadlineText(record->job));
    return;
  }
  if (record->job.pause_requested()) {
    BecomePaused(call, record, message);
    return;
  }
  Requeue(call, record, reason, message, Monotonic{0});
}

void CheckStop(Call* call, JobRecord* record) {
  if (!record->attempt.has_value() || !record->attempt->stop_deadline.has_value()) return;
  if (call->now().monotonic < *record->attempt->stop_deadline) return;
  record->job.set_stop_message(absl::StrCat(record->job.stop_message(),
                                            "; did not stop by itself within ",
                                            SecondsText(call->options().stop_grace)));
  CommitBeforeTheEnd(call, record);
  const v1::Checkpoint* newest = NewestCheckpoint(record->job);
  EndStopped(call, record, newest == nullptr ? 0 : newest->step());
}

void WatchDeadline(State* state, const JobRecord& record) {
  if (!record.job.has_deadline()) return;
  state->deadlines.emplace(base::FromProto(record.job.deadline()), record.number);
}

void CheckDeadlines(Call* call) {
  State& state = call->state();
  while (!state.deadlines.empty() && state.deadlines.begin()->first <= call->now().wall) {
    const auto found = state.jobs.find(state.deadlines.begin()->second);
    state.deadlines.erase(state.deadlines.begin());
    if (found == state.jobs.end() || !found->second.job.has_deadline()) continue;
    JobRecord* record = &found->second;
    if (record->attempt.has_value()) {
      RequestStop(call, record, v1::REASON_DEADLINE_EXCEEDED, "its deadline is over");
    } else if (record->job.state() == v1::JOB_STATE_QUEUED) {
      StopWaiting(call, record);
      record->job.clear_not_before();
      call->Move(record, v1::JOB_STATE_FAILED, v1::REASON_DEADLINE_EXCEEDED,
                 DeadlineText(record->job));
    }
  }
}

std::string DeadlineText(const v1::Job& job) {
  const absl::Time deadline = absl::FromChrono(base::FromProto(job.deadline()));
  return absl::StrCat("it had not ended by its deadline, ",
                      absl::FormatTime("%Y-%m-%d %H:%M:%S", deadline, absl::UTCTimeZone()),
                      " UTC; `sinkforge resume ", job.job_id(), "` goes on without one");
}

}  // namespace sinkforge::server
