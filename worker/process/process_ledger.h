// ProcessLedger: which trainer processes this data folder's daemon has started, by pid and start
// time, so that the daemon's next life can make sure that they are dead. A trainer dies with its
// daemon anyway (PR_SET_PDEATHSIG); the ledger is for what that cannot reach.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/kv_store.h"
#include "base/kv_store_wreck.h"

namespace sinkforge::worker {

// Clock ticks from the machine's boot to the start of the process: with the pid and the boot's id,
// this names a process for good. NOT_FOUND: no such process, or it is dead and not yet reaped.
absl::StatusOr<int64_t> ProcessStartTicks(pid_t pid);

// Thread-safe.
class ProcessLedger {
 public:
  explicit ProcessLedger(base::KvStore* store) : store_(store) {}

  // Durable against kill -9 when it returns. The process must be there, not yet reaped.
  absl::Status Add(pid_t pid);
  void Remove(pid_t pid);
  // Kills what a former life left and waits until it is gone. Returns how many there were.
  // DEADLINE_EXCEEDED names the process that does not die.
  absl::StatusOr<int> KillLeftovers(std::chrono::milliseconds timeout);
  // Takes over what a damaged database says. UNAVAILABLE, RESOURCE_EXHAUSTED.
  absl::Status Salvage(base::KvWreck* wreck);

 private:
  base::KvStore* const store_;
};

}  // namespace sinkforge::worker
