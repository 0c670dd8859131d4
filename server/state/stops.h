// Attempts that the scheduler or a deadline stops: asking, taking back, and what comes after.
#pragma once

#include <string>

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

// The attempt under way is to checkpoint and stop for `reason`: PREEMPTED, RESIZED or
// DEADLINE_EXCEEDED. Nothing where it stops already for a reason of this kind, but a deadline
// replaces the others.
void RequestStop(Call* call, JobRecord* record, v1::Reason reason, const std::string& message);
// Ends a backfilled attempt at once; the job waits again.
void TakeBack(Call* call, JobRecord* record, const std::string& message);
// Every rank has stopped, after `step` steps, as RequestStop asked, or its time for that is over.
void EndStopped(Call* call, JobRecord* record, int64_t step);
// The time to stop is over.
void CheckStop(Call* call, JobRecord* record);

// From now on the job has to end by its deadline, if it has one.
void WatchDeadline(State* state, const JobRecord& record);
// Fails what waits past its deadline, and stops what runs.
void CheckDeadlines(Call* call);
// Why such a job FAILED.
std::string DeadlineText(const v1::Job& job);

}  // namespace sinkforge::server
