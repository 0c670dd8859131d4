// The gate before the queue; see sweeps.h.
#include "server/state/sweeps.h"

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace sinkforge::server {
namespace {

bool HasGate(const v1::Job& job) { return !job.sweep().empty() && job.sweep_running_max() > 0; }

bool IsInside(const State& state, int64_t number) {
  const auto record = state.jobs.find(number);
  if (record == state.jobs.end()) return false;
  return record->second.waiting == Waiting::kReady || record->second.attempt.has_value();
}

}  // namespace

bool AdmitToSweep(Call* call, JobRecord* record) {
  if (!HasGate(record->job)) return true;
  SweepGate& gate = call->state().sweeps[record->job.sweep()];
  // The last submission counts, so that the limit of a sweep can be changed by adding to it.
  gate.running_max = static_cast<size_t>(record->job.sweep_running_max());
  if (gate.admitted.contains(record->number)) return true;
  if (gate.admitted.size() < gate.running_max) {
    gate.admitted.insert(record->number);
    return true;
  }
  SINKFORGE_REQUIRE(gate.held.emplace(record->waiting_job.key, record->number).second);
  return false;
}

void LeaveHold(State* state, const JobRecord& record) {
  const auto gate = state->sweeps.find(record.job.sweep());
  SINKFORGE_REQUIRE(gate != state->sweeps.end());
  SINKFORGE_REQUIRE(gate->second.held.erase(record.waiting_job.key) == 1);
  if (gate->second.admitted.empty() && gate->second.held.empty()) state->sweeps.erase(gate);
}

void NoteLeft(State* state, const JobRecord& record) {
  if (!HasGate(record.job)) return;
  const auto gate = state->sweeps.find(record.job.sweep());
  if (gate == state->sweeps.end() || !gate->second.admitted.contains(record.number)) return;
  gate->second.left.insert(record.number);
  state->sweeps_left.insert(record.job.sweep());
}

void SettleSweeps(Call* call, const std::function<void(JobRecord*)>& ready) {
  State& state = call->state();
  const std::set<std::string> names = std::exchange(state.sweeps_left, {});
  for (const std::string& name : names) {
    const auto found = state.sweeps.find(name);
    if (found == state.sweeps.end()) continue;
    SweepGate& gate = found->second;
    for (const int64_t number : gate.left) {
      if (!IsInside(state, number)) gate.admitted.erase(number);
    }
    gate.left.clear();
    while (!gate.held.empty() && gate.admitted.size() < gate.running_max) {
      JobRecord& record = state.jobs.at(gate.held.begin()->second);
      gate.held.erase(gate.held.begin());
      gate.admitted.insert(record.number);
      ready(&record);
    }
    if (gate.admitted.empty() && gate.held.empty()) state.sweeps.erase(found);
  }
}

std::string SweepWaitText(const State& state, const JobRecord& record) {
  const SweepGate& gate = state.sweeps.at(record.job.sweep());
  return absl::StrCat("sweep ", record.job.sweep(), " has ", gate.admitted.size(),
                      " jobs running or next in line, which is as many at a time as it may (",
                      gate.running_max, ")");
}

}  // namespace sinkforge::server
