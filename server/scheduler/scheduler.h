// The scheduling policy: pure functions from queue, pool, shares and attempts under way to one
// decision and its reason.
//
// Order of service: priority; among equals the namespace with the fewest slots in use for its
// weight; inside a namespace the earlier deadline, then first come, first served. The first job in
// this order that could ever run is the head of the queue. A job that needs more slots than there
// are, or than its namespace's quota, is passed over; where a quota is merely used up, its
// namespace waits and the others go on.
//
// A head that cannot start has a claim on every slot that comes free. What it cannot use yet is
// lent to jobs behind it (backfill), and taken back at once, without a checkpoint, as soon as the
// head can start with it: the head never starts later than it would have without. A head also
// preempts attempts of lower priority, which checkpoint first: those of the lowest priority, and
// among equals those with the least work at risk.
//
// A job does not start on a worker that is unfit for it while others, busy now, have slots enough:
// it steps back and is asked for again soon. So a worker that fails whatever starts there, and is
// therefore always free, does not fail the whole queue.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "server/scheduler/pool.h"
#include "server/scheduler/queue.h"
#include "server/scheduler/running.h"
#include "server/scheduler/shares.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server::scheduler {

struct Cluster {
  Queue queue;
  Pool pool;
  Shares shares;
  Running running;
};

struct PolicyOptions {
  // An elastic attempt runs at least this long before it is stopped to go on with more ranks.
  std::chrono::nanoseconds grow_after = std::chrono::seconds(60);
};

enum class Action {
  kNothing,   // nobody waits who could ever fit
  kStart,     // `job` on `placement`
  kStepBack,  // take `job` out of the queue for a moment: only unfit workers have room for it now
  kPark,      // take `job` out of the queue until one of `missing` is back
  kEvict,     // `job` is first in line: stop `victims` for it
  kGrow,      // stop `victims`, of which there is one, so that it starts again with more ranks
  kWait,      // `job` is first in line; nothing starts before slots come free
};

enum class Eviction { kAtOnce, kCheckpointFirst };

struct Victim {
  int64_t number = 0;  // of the job
  Eviction how = Eviction::kCheckpointFirst;
};

struct Decision {
  Action action = Action::kNothing;
  const WaitingJob* job = nullptr;           // in the queue
  std::vector<v1::RankPlacement> placement;  // by rank
  std::string lent_from;                     // kStart: job id of the head that it overtakes
  std::vector<std::string> missing;          // holders, sorted
  std::vector<Victim> victims;
  v1::Reason reason = v1::REASON_UNSPECIFIED;
  std::string message;
};

// The next thing to do for the jobs of `device`. Apply it and ask again until it is kNothing or
// kWait. The cost does not depend on the number of jobs that wait.
Decision Decide(const Cluster& cluster, v1::Device device, const PolicyOptions& options,
                std::chrono::nanoseconds now);

}  // namespace sinkforge::server::scheduler
