// The worker protocol: whole snapshots in, desired states out, leases in between.
#pragma once

#include "absl/status/status.h"
#include "server/state/call.h"
#include "server/state/model.h"
#include "sinkforge/v1/worker_service.pb.h"

namespace sinkforge::server {

// See Coordinator::HandleSnapshot.
absl::Status TakeSnapshot(Call* call, const v1::WorkerSnapshot& snapshot);
// Expired leases, then time-outs of attempts, then forgetting workers.
void CheckLeases(Call* call);
// A worker that a stored placement names, until it reports.
void ExpectWorker(State* state, const v1::RankPlacement& placement, const base::Now& now);
v1::DesiredState DesiredOf(const State& state, const WorkerRecord& worker);
v1::Worker Describe(const State& state, const WorkerRecord& worker);
// What a snapshot alone says of its worker, which is taken for live.
v1::Worker DescribeSnapshot(const v1::WorkerSnapshot& snapshot,
                            std::chrono::system_clock::time_point seen);

}  // namespace sinkforge::server
