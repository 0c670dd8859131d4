// What happens to jobs and workers, as lines of the coordinator's log.
#pragma once

#include "server/state/coordinator.h"

namespace sinkforge::server {

// A line for each event and for each worker that came or went, of one commit, which `coordinator`
// has made already. Events of a deleted job have no trace id any more; those of one rank name it
// and its worker.
void LogEvents(const Coordinator& coordinator, const Effects& effects);

}  // namespace sinkforge::server
