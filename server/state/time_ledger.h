// TimeLedger: attributes a job's time to what it was spent on, state by state.
#pragma once

#include <chrono>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server {

// The job is about to leave its state for `to`: the time since it came into it is added to its
// ledger, and the next state begins. `now` is the wall clock, because the ledger survives the
// coordinator; where that clock was set back, no time has passed.
void AccountTime(v1::JobState to, std::chrono::system_clock::time_point now, v1::Job* job);

// TimeLedger.train as it would be if the job's run ended now with all its work kept.
double TrainedSeconds(const v1::Job& job, std::chrono::system_clock::time_point now);

// A job that waits or is paused goes on from its newest checkpoint: what it did after that counts
// neither as progress nor as training any more, but as done again. In any other state nothing
// happens: an attempt still works on it, or nothing does any more. To be called when the job has
// come into its state, and when it has lost a checkpoint.
void GoBackToNewest(v1::Job* job);

}  // namespace sinkforge::server
