// The table of a job's checkpoints, for `show` and `checkpoints list`.
#pragma once

#include "client/table.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::client {

Table CheckpointTable(const v1::Job& job);

}  // namespace sinkforge::client
