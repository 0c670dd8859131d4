// Waiting jobs: where a QUEUED job waits (ready, backing off, parked for a checkpoint's holder),
// and applying what the scheduler decides.
#pragma once

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

// The record is QUEUED and waits nowhere yet. Not before `not_before`.
void StartWaiting(Call* call, JobRecord* record, Monotonic not_before);
// Nothing where it does not wait.
void StopWaiting(Call* call, JobRecord* record);
// The checkpoint to restore changed.
void RefreshWaiting(Call* call, JobRecord* record);
// Back-offs that are over.
void WakeBackedOff(Call* call);
// The worker can be read from again.
void WakeParked(Call* call, const std::string& holder);
// Starts what can start, and keeps the reason of the first in line.
void RunScheduler(Call* call);
// Who is ahead, and what would let it run; empty for a job that does not wait.
v1::JobWait ExplainJobInFull(const State& state, const JobRecord& record);
// Its place in the order of service.
scheduler::QueueKey KeyOf(const JobRecord& record);
Explanation ExplainJob(const State& state, const JobRecord& record, const base::Now& now);

}  // namespace sinkforge::server
