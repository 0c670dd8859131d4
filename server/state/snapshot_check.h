// Whether a snapshot can be taken in at all.
#pragma once

#include "absl/status/status.h"
#include "server/state/coordinator.h"
#include "sinkforge/v1/worker_service.pb.h"

namespace sinkforge::server {

// INVALID_ARGUMENT: the worker's name, its incarnation, its slots, or more entries than allowed.
absl::Status CheckSnapshot(const v1::WorkerSnapshot& snapshot, const CoordinatorOptions& options);

}  // namespace sinkforge::server
