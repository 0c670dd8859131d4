// The scheduling policy: pure functions from the queue and the pool to one decision and its reason.
//
// Gangs are placed all or nothing, by priority and then first come, first served. A job that needs
// more slots than there are is passed over, and so is one whose checkpoint cannot be read now; a
// job that merely has to wait holds back all behind it on the same device, so that it cannot be
// overtaken for ever.
#pragma once

#include <string>
#include <vector>

#include "server/scheduler/pool.h"
#include "server/scheduler/queue.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server::scheduler {

enum class Action {
  kNothing,  // nobody waits who could ever fit
  kStart,    // `job` on `placement`
  kPark,     // take `job` out of the queue until one of `missing` is back
  kWait,     // `job` is first in line; nothing starts before slots come free
};

struct Decision {
  Action action = Action::kNothing;
  const WaitingJob* job = nullptr;           // in the queue
  std::vector<v1::RankPlacement> placement;  // by rank
  std::vector<std::string> missing;          // holders, sorted
  v1::Reason reason = v1::REASON_UNSPECIFIED;
  std::string message;
};

// The next thing to do for the jobs of `device`. Apply it and ask again until it is kNothing or
// kWait.
Decision Decide(const Queue& queue, const Pool& pool, v1::Device device);

struct Wait {
  v1::Reason reason = v1::REASON_UNSPECIFIED;
  std::string message;
};

// Why `job`, which may be parked, does not run.
Wait ExplainWait(const Queue& queue, const Pool& pool, const WaitingJob& job);

// "cpu", "cuda".
std::string DeviceName(v1::Device device);

}  // namespace sinkforge::server::scheduler
