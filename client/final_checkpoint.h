// Whether a job that has ended still has the weights of its last step.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::client {

// Of the newest checkpoint that is not being deleted; absent where there is none.
std::optional<int64_t> NewestCheckpointStep(const v1::Job& job);

// The step whose weights a job that has ended no longer has, or, of one that failed or was
// cancelled, never kept: its last one. Absent while the job goes on, and where they are there.
std::optional<int64_t> MissingFinalStep(const v1::Job& job);

// A line for whoever takes the newest checkpoint for the job's last weights, naming both steps;
// empty where it has them.
std::string OlderWeightsWarning(const v1::Job& job);

}  // namespace sinkforge::client
