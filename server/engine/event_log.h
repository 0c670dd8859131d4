// What happens to jobs, as lines of the coordinator's log.
#pragma once

#include <vector>

#include "server/state/coordinator.h"

namespace sinkforge::server {

// A line for each event of one commit, which `coordinator` has made already. Events of a deleted
// job have no trace id any more.
void LogEvents(const Coordinator& coordinator, const std::vector<v1::Event>& events);

}  // namespace sinkforge::server
