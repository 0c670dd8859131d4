// RunHost: a TrainingHost that can also restore. Implementations: StandaloneHost (files) and
// WorkerLink (gRPC to the worker daemon). Its calls come from the training thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/status.h"
#include "worker/trainer/checkpoint_record.h"
#include "worker/trainer/core/host.h"
#include "worker/trainer/make_collective.h"

namespace sinkforge::trainer {

struct StoredCheckpoint {
  Snapshot snapshot;
  CheckpointRecord record;
};

// What goes into every checkpoint beside the core's snapshot.
struct RunContext {
  std::vector<FileDigest> files;
  RunEnvironment environment;
  std::string tokenizer;
};

inline CheckpointRecord MakeRecord(const RunContext& context, const Snapshot& snapshot) {
  return {snapshot.state, snapshot.loss,       snapshot.imbalance,
          context.files,  context.environment, context.tokenizer};
}

class RunHost : public TrainingHost {
 public:
  // What to go on from; absent: from the beginning. kDataLoss: it is corrupt or missing.
  // kFailedPrecondition: written by a newer version. kUnavailable: not now.
  virtual kernels::Result<std::optional<StoredCheckpoint>> LoadCheckpoint() = 0;
  // Once, before the first step. `restored_step` is 0 for a run that begins.
  virtual kernels::Status Begin(const RunContext& context, int64_t restored_step) = 0;
  // For people, of what is as it should be.
  virtual void Note(const std::string& message) = 0;
  // Through which the ranks find one another; null: this host runs one rank.
  virtual RendezvousStore* rendezvous() { return nullptr; }
  // Of the last durable checkpoint; 0: none.
  virtual int64_t durable_step() const = 0;
  // The latest checkpoint could not be made durable.
  virtual bool checkpoint_failed() const = 0;
};

}  // namespace sinkforge::trainer
