// Reconcile: what to do so that what runs here becomes what the coordinator wants. Pure: a view of
// the worker and a desired state go in, a plan comes out; the Agent carries it out.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "sinkforge/v1/worker_service.pb.h"
#include "worker/keys.h"

namespace sinkforge::worker {

// A rank that this incarnation of the daemon holds or held.
struct HeldRank {
  enum class Life {
    kRunning,
    kDying,  // killed, but its process may still be there: the slot is not free
    kEnded,
  };
  RankKey key;
  int32_t slot = 0;
  Life life = Life::kRunning;
  v1::RunRequest run = v1::RUN_REQUEST_TRAIN;  // what it was last told
};

struct WorkerView {
  std::vector<HeldRank> ranks;
  std::set<CheckpointKey> checkpoints;  // of which there is a part on this worker
  std::set<int32_t> slots;
  enum class Intake { kOpen, kDraining };
  Intake intake = Intake::kOpen;
};

struct Plan {
  // A rank that cannot be started here; it ends as failed with this reason.
  struct Refusal {
    v1::DesiredRank rank;
    v1::Reason reason = v1::REASON_UNSPECIFIED;
    std::string message;
  };
  struct Drop {
    CheckpointKey checkpoint;
    std::string job_uid;  // only the parts with this one; empty: all
    auto operator<=>(const Drop&) const = default;
  };
  std::vector<v1::DesiredRank> spawn;
  std::vector<Refusal> refuse;
  std::vector<RankKey> kill;
  std::vector<RankKey> stop;  // checkpoint, then stop
  std::vector<Drop> drop_checkpoints;
  std::vector<RankKey> forget;  // ends that the coordinator knows

  bool empty() const {
    return spawn.empty() && refuse.empty() && kill.empty() && stop.empty() &&
           drop_checkpoints.empty() && forget.empty();
  }
};

RankKey KeyOf(const v1::DesiredRank& rank);

// Every list of the plan is sorted. A rank whose slot is still taken is in no list: it is spawned
// by the plan that is made when the slot is free. An end is forgotten only when it is acknowledged
// and no longer desired, so that no rank of an attempt can ever start twice.
Plan Reconcile(const WorkerView& view, const v1::DesiredState& desired);

}  // namespace sinkforge::worker
