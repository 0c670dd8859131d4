// Sweeps that run only so many of their jobs at a time.
#pragma once

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

// Whether the job may join the queue. False: it is held until another job of its sweep has left.
bool AdmitToSweep(Call* call, JobRecord* record);
// The job is held no more.
void LeaveHold(State* state, const JobRecord& record);
// The job left the queue, or its attempt ended.
void NoteLeft(State* state, const JobRecord& record);
// Lets go as many held jobs as others have left for good; `ready` puts one into the queue.
void SettleSweeps(Call* call, const std::function<void(JobRecord*)>& ready);
// "sweep s runs 2 jobs, which is as many at a time as it may".
std::string SweepWaitText(const State& state, const JobRecord& record);

}  // namespace sinkforge::server
