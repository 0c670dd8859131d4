// Workers on their way out. One that is being stopped is told when it may go: first the attempts
// are over that it has a rank of, and others have fetched the checkpoints that it alone has; its
// grace period says how long it waits for that. One that was stopped in order is away from its last
// word on, and nobody waits for its lease.
#pragma once

#include <cstdint>

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

// Checkpoints of which it has a part that no worker has which stays.
int64_t OnlyCopies(const State& state, const WorkerRecord& worker);

// Tells those that are being stopped whether they are waited for, where that changed. After
// PlanCopies.
void TellLeaves(Call* call);

// The worker has sent its last snapshot. What waits for its copies is committed without them, while
// it still counts as there.
void SayGoodbye(Call* call, WorkerRecord* worker);

// Nothing runs on the worker any more, and nothing can be read there.
void EndLease(Call* call, WorkerRecord* worker, WorkerNote::Kind kind);

}  // namespace sinkforge::server
