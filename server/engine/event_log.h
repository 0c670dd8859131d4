// What happens to jobs, as lines of the coordinator's log.
#pragma once

#include "server/state/coordinator.h"

namespace sinkforge::server {

// A line for each event of one commit, which `coordinator` has made already. Events of a deleted
// job have no trace id any more; those of one rank name it and its worker.
void LogEvents(const Coordinator& coordinator, const Effects& effects);

}  // namespace sinkforge::server
