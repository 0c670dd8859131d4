// Which worker to read a part of a checkpoint from.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sinkforge/v1/job.pb.h"
#include "sinkforge/v1/worker_service.pb.h"

namespace sinkforge::client {

// Every copy of every part, by rank, the one that is read first before the others.
std::vector<v1::CheckpointPart> EveryCopy(const v1::Checkpoint& checkpoint);

// Names of all workers that hold the rank's part, the one that is read first before the others.
std::vector<std::string> HoldersOfRank(const v1::Checkpoint& checkpoint, int32_t rank);

// UNAVAILABLE: the worker is away.
absl::StatusOr<std::string> AddressOf(const v1::ListWorkersResponse& workers,
                                      const std::string& name);

}  // namespace sinkforge::client
