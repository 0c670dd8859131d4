// A committed checkpoint as a safetensors file: chosen, read from the workers that hold its parts,
// every chunk's checksum verified. `checkpoints export` and `sample` use it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "client/checkpoint_spool.h"
#include "client/session.h"
#include "client/stop_signal.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::client {

// The checkpoint of `step`, or the newest. NOT_FOUND names those that there are.
absl::StatusOr<v1::Checkpoint> ChooseCheckpoint(const v1::Job& job, std::optional<int64_t> step);

struct ExportTarget {
  std::string file;
  ExportContent content = ExportContent::kParameters;
};

struct ExportedCheckpoint {
  int64_t tensors = 0;
  int64_t bytes = 0;
};

// UNAVAILABLE: a worker that holds a part is away. DATA_LOSS: a part is damaged. CANCELLED: `stop`.
// The file is whole or absent.
absl::StatusOr<ExportedCheckpoint> ExportCheckpoint(Session& session, const v1::Job& job,
                                                    const v1::Checkpoint& checkpoint,
                                                    const ExportTarget& target, StopSignal* stop);

}  // namespace sinkforge::client
