// Attempts: starting a gang, following its ranks, ending it, and deciding what becomes of the job.
#pragma once

#include <string>
#include <vector>

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

// Moves the QUEUED job, which waits nowhere any more, to STARTING. One placement per rank, in
// order.
void StartAttempt(Call* call, JobRecord* record, const std::vector<v1::RankPlacement>& placement);

// Takes every rank back from its worker. The job's state is the caller's to move.
void EndAttempt(Call* call, JobRecord* record, v1::Reason reason, const std::string& message);

// Ends the attempt for a fault; then the job waits for another one, is PAUSED (where a pause was
// under way), or FAILED.
void FailAttempt(Call* call, JobRecord* record, v1::Reason reason, const std::string& message);

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
