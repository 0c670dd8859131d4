// TimeLedger: attributes a job's time to what it was spent on, state by state.
#pragma once

#include <chrono>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server {

// The job is about to leave its state for `to`: the time since it came into it is added to its
// ledger, and the next state begins. `now` is the wall clock, because the ledger survives the
// coordinator; where that clock was set back, no time has passed.
void AccountTime(v1::JobState to, std::chrono::system_clock::time_point now, v1::Job* job);

}  // namespace sinkforge::server
