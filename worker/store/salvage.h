// Salvage: moves what can be read of a worker's damaged database into the one in its place.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/store/checkpoint_store.h"
#include "worker/store/log_spool.h"
#include "worker/store/step_spool.h"
#include "worker/store/worker_database.h"

namespace sinkforge::worker {

// The stores over `database`; nothing is owned.
struct SalvageParts {
  WorkerDatabase* database = nullptr;
  CheckpointStore* checkpoints = nullptr;
  StepSpool* steps = nullptr;
  LogSpool* logs = nullptr;
  // A store that was open when the damage was found knows its parts better than the damaged files.
  enum class KnownParts { kInMemory, kInDamagedFiles } known_parts = KnownParts::kInMemory;
};

// Spooled records first, then one checkpoint part after the other, each of which can be read as
// soon as it is moved. A part that cannot be read as a whole is dropped in the end, so that the
// coordinator learns that it is gone. Returns how many those were. For one thread at a time.
// UNAVAILABLE, RESOURCE_EXHAUSTED: the disk does not let it; the same call goes on later.
absl::StatusOr<int64_t> Salvage(const SalvageParts& parts);

}  // namespace sinkforge::worker
