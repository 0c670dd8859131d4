// Where a gang goes: pure.
#pragma once

#include <vector>

#include "server/scheduler/pool.h"
#include "server/scheduler/queue.h"

namespace sinkforge::server::scheduler {

// One placement for each of `ranks` ranks, of which there are as many free slots. One worker where
// one is enough, because ranks on one machine talk fastest: a holder of the checkpoint first, then
// the one with the fewest free slots that are enough, so that wide gaps stay whole for wide gangs.
// Else few workers: holders first, then those with the most free slots. Workers to avoid come last,
// also where that takes more workers. Ties go by name. Logarithmic in the number of workers where
// one is enough.
std::vector<v1::RankPlacement> Place(const Pool& pool, const WaitingJob& job, int ranks);

}  // namespace sinkforge::server::scheduler
