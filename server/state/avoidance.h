// Workers where a job failed lately, which it avoids for a while: the last choice, or, where it
// failed before it trained or for want of good data, none while others have slots enough.
#pragma once

#include <string>
#include <vector>

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

enum class Avoidance { kLastChoice, kUnfit };

// For CoordinatorOptions::avoid_worker_for from now. No name: nothing points at one.
void Avoid(Call* call, JobRecord* record, const std::string& worker, Avoidance avoidance);
// Sorted; with kLastChoice also those that are unfit.
std::vector<std::string> AvoidedAt(const v1::Job& job, const base::Now& now, Avoidance avoidance);
// Whether the workers that are not unfit have slots enough for the job, free or not.
bool FitsElsewhere(const State& state, const v1::Job& job, const base::Now& now);
// Ranks that it can do with.
int LeastRanks(const v1::JobSpec& spec);

}  // namespace sinkforge::server
