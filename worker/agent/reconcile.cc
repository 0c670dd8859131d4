// The plan from view to desired state; see reconcile.h.
#include "worker/agent/reconcile.h"

#include <map>

namespace sinkforge::worker {
namespace {

bool WantsStop(const WorkerView& view, const v1::DesiredRank& desired) {
  return view.intake == WorkerView::Intake::kDraining ||
         desired.run() == v1::RUN_REQUEST_CHECKPOINT_AND_STOP;
}

// What becomes of the ranks that are already held.
void PlanHeld(const WorkerView& view, const std::map<RankKey, const v1::DesiredRank*>& wanted,
              const std::set<std::string>& acknowledged, Plan* plan) {
  for (const HeldRank& held : view.ranks) {
    const auto want = wanted.find(held.key);
    switch (held.life) {
      case HeldRank::Life::kRunning:
        if (want == wanted.end()) {
          plan->kill.push_back(held.key);
        } else if (WantsStop(view, *want->second) &&
                   held.run != v1::RUN_REQUEST_CHECKPOINT_AND_STOP) {
          plan->stop.push_back(held.key);
        }
        break;
      case HeldRank::Life::kDying:
        break;
      case HeldRank::Life::kEnded:
        if (want == wanted.end() && acknowledged.count(ToString(held.key)) > 0) {
          plan->forget.push_back(held.key);
        }
        break;
    }
  }
}

// What becomes of a desired rank that is not held.
void PlanNew(const WorkerView& view, const v1::DesiredRank& desired, std::set<int32_t>* taken,
             Plan* plan) {
  if (view.intake == WorkerView::Intake::kDraining) {
    plan->refuse.push_back(
        {desired, v1::REASON_WORKER_DRAINING, "the worker is draining and starts no new trainer"});
    return;
  }
  if (view.slots.count(desired.slot()) == 0) {
    plan->refuse.push_back({desired, v1::REASON_TRAINER_CRASHED,
                            "the worker has no slot " + std::to_string(desired.slot()) +
                                "; see its slots with `sinkforge workers`"});
    return;
  }
  if (!taken->insert(desired.slot()).second) return;
  plan->spawn.push_back(desired);
}

}  // namespace

RankKey KeyOf(const v1::DesiredRank& rank) { return {rank.job_id(), rank.attempt(), rank.rank()}; }

Plan Reconcile(const WorkerView& view, const v1::DesiredState& desired) {
  std::map<RankKey, const v1::DesiredRank*> wanted;
  for (const v1::DesiredRank& rank : desired.ranks()) wanted.emplace(KeyOf(rank), &rank);
  const std::set<std::string> acknowledged(desired.acknowledged_ends().begin(),
                                           desired.acknowledged_ends().end());
  std::map<RankKey, const HeldRank*> held;
  std::set<int32_t> taken;
  for (const HeldRank& rank : view.ranks) {
    held.emplace(rank.key, &rank);
    if (rank.life != HeldRank::Life::kEnded) taken.insert(rank.slot);
  }

  Plan plan;
  PlanHeld(view, wanted, acknowledged, &plan);
  for (const auto& [key, rank] : wanted) {
    if (held.count(key) == 0) PlanNew(view, *rank, &taken, &plan);
  }
  std::set<Plan::Drop> drop;
  for (const v1::DropCheckpoint& checkpoint : desired.drop_checkpoints()) {
    CheckpointKey key{checkpoint.job_id(), checkpoint.attempt(), checkpoint.step()};
    if (view.checkpoints.count(key) > 0) drop.insert({std::move(key), checkpoint.job_uid()});
  }
  plan.drop_checkpoints.assign(drop.begin(), drop.end());
  return plan;
}

}  // namespace sinkforge::worker
