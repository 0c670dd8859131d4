// Why a job waits, for people: the same questions that the policy asks, answered in words.
#pragma once

#include <string>
#include <vector>

#include "server/scheduler/scheduler.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server::scheduler {

struct Wait {
  v1::Reason reason = v1::REASON_UNSPECIFIED;
  std::string message;
};

// Why `job`, which may be parked, does not run.
Wait ExplainWait(const Cluster& cluster, const WaitingJob& job);

// Who is ahead of it, and what would let it run, as far as the policy knows. Looks at every job of
// the device that waits.
v1::JobWait ExplainInFull(const Cluster& cluster, const WaitingJob& job);

// Holders of the checkpoint to restore that cannot be read now; sorted.
std::vector<std::string> MissingHolders(const Pool& pool, const WaitingJob& job);
// Of a job that has missing holders, and of the head of the queue.
Wait HolderWait(const std::vector<std::string>& missing);
Wait SlotWait(const Cluster& cluster, const WaitingJob& job);

// "cpu", "cuda".
std::string DeviceName(v1::Device device);
// "1 cpu slot", "3 cuda slots".
std::string SlotCount(int count, v1::Device device);

}  // namespace sinkforge::server::scheduler
