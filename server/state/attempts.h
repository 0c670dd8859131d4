// Attempts: starting a gang, following its ranks, ending it, and deciding what becomes of the job.
#pragma once

#include <string>
#include <vector>

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

struct AttemptPlan {
  std::vector<v1::RankPlacement> placement;  // by rank
  std::string lent_from;                     // see v1::Job
  std::string note;                          // why so; may be empty
};

// Moves the QUEUED job, which waits nowhere any more, to STARTING.
void StartAttempt(Call* call, JobRecord* record, const AttemptPlan& plan);

// Counts the attempt under way, with its placement, as a user of slots. EndAttempt undoes it.
void Occupy(State* state, const JobRecord& record, const base::Now& now);

// Takes every rank back from its worker. The job's state is the caller's to move.
void EndAttempt(Call* call, JobRecord* record, v1::Reason reason, const std::string& message);

// Ends the attempt for a fault; then the job waits for another one, is PAUSED (where a pause was
// under way), or FAILED. `worker`: where the fault was, empty where that is not known;
// a copy, because the attempt that may own it ends.
void FailAttempt(Call* call, JobRecord* record, v1::Reason reason, const std::string& message,
                 std::string worker);

// After EndAttempt: back into the queue after `delay`, or PAUSED by the user.
void Requeue(Call* call, JobRecord* record, v1::Reason reason, const std::string& message,
             Monotonic delay);
void BecomePaused(Call* call, JobRecord* record, const std::string& message);

// Takes in what the rank's worker says about it. Call EvaluateAttempt after all of a snapshot.
void UpdateRank(Call* call, JobRecord* record, const v1::RankStatus& status);

// Moves the job on where its ranks' states say so. The parts of the same snapshot must have been
// taken in before: a job has not succeeded before its last checkpoint is committed.
void EvaluateAttempt(Call* call, JobRecord* record);

// Ranks on lost workers, start and progress time-outs.
void CheckAttempt(Call* call, JobRecord* record);

// What the ranks are asked for changed (a pause, a drain).
void TouchRanks(Call* call, const JobRecord& record);

}  // namespace sinkforge::server
