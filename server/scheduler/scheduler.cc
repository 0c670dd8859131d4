// The policy and its explanations; see scheduler.h.
#include "server/scheduler/scheduler.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"

namespace sinkforge::server::scheduler {
namespace {

struct Candidate {
  const WorkerView* worker = nullptr;
  const std::vector<int>* free = nullptr;
  bool holds = false;  // the checkpoint to restore, or a part of it
};

std::string SlotCount(int count, v1::Device device) {
  return absl::StrCat(count, " ", DeviceName(device), count == 1 ? " slot" : " slots");
}

std::vector<Candidate> Candidates(const Pool& pool, const WaitingJob& job) {
  std::vector<Candidate> candidates;
  for (const auto& [name, worker] : pool.workers()) {
    const auto slots = worker.slots.find(job.device);
    if (slots == worker.slots.end() || slots->second.free.empty()) continue;
    const bool holds = std::binary_search(job.holders.begin(), job.holders.end(), name);
    candidates.push_back({&worker, &slots->second.free, holds});
  }
  return candidates;
}

// One worker where one is enough, because ranks on one machine talk fastest: a holder first, then
// the fullest, so that wide gaps stay whole for wide gangs. Else few workers: holders first, then
// the emptiest. Ties go by name.
std::vector<Candidate> Choose(std::vector<Candidate> candidates, int ranks) {
  const Candidate* single = nullptr;
  const auto rank_single = [](const Candidate& c) {
    return std::make_tuple(!c.holds, c.free->size(), c.worker->worker);
  };
  for (const Candidate& c : candidates) {
    if (static_cast<int>(c.free->size()) < ranks) continue;
    if (single == nullptr || rank_single(c) < rank_single(*single)) single = &c;
  }
  if (single != nullptr) return {*single};
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::make_tuple(!a.holds, b.free->size(), a.worker->worker) <
           std::make_tuple(!b.holds, a.free->size(), b.worker->worker);
  });
  return candidates;
}

std::vector<v1::RankPlacement> Place(const Pool& pool, const WaitingJob& job) {
  std::vector<v1::RankPlacement> placement;
  for (const Candidate& c : Choose(Candidates(pool, job), job.ranks)) {
    for (const int slot : *c.free) {
      if (static_cast<int>(placement.size()) == job.ranks) return placement;
      v1::RankPlacement& rank = placement.emplace_back();
      rank.set_rank(static_cast<int>(placement.size()) - 1);
      rank.set_worker(c.worker->worker);
      rank.set_incarnation(c.worker->incarnation);
      rank.set_slot(slot);
    }
  }
  SINKFORGE_REQUIRE(static_cast<int>(placement.size()) == job.ranks);
  return placement;
}

std::vector<std::string> MissingHolders(const Pool& pool, const WaitingJob& job) {
  std::vector<std::string> missing;
  for (const std::string& holder : job.holders) {
    const auto it = pool.workers().find(holder);
    if (it == pool.workers().end() || !it->second.serves_checkpoints) missing.push_back(holder);
  }
  return missing;
}

Wait HolderWait(const std::vector<std::string>& missing) {
  return {v1::REASON_WAITING_FOR_CHECKPOINT_HOLDER,
          absl::StrCat("its last checkpoint is on ", missing.size() == 1 ? "worker " : "workers ",
                       absl::StrJoin(missing, ", "),
                       missing.size() == 1 ? ", which is away; start it to go on"
                                           : ", which are away; start them to go on")};
}

Wait SlotWait(const Pool& pool, const WaitingJob& job) {
  return {v1::REASON_WAITING_FOR_SLOTS,
          absl::StrCat("needs ", SlotCount(job.ranks, job.device), "; ", pool.Free(job.device),
                       " of ", pool.Total(job.device), " free; first in line")};
}

}  // namespace

Decision Decide(const Queue& queue, const Pool& pool, v1::Device device) {
  Decision decision;
  decision.job = queue.First(device, pool.Total(device));
  if (decision.job == nullptr) return decision;
  const WaitingJob& job = *decision.job;
  decision.missing = MissingHolders(pool, job);
  if (!decision.missing.empty()) {
    decision.action = Action::kPark;
    Wait wait = HolderWait(decision.missing);
    decision.reason = wait.reason;
    decision.message = wait.message;
    return decision;
  }
  if (job.ranks > pool.Free(device)) {
    decision.action = Action::kWait;
    Wait wait = SlotWait(pool, job);
    decision.reason = wait.reason;
    decision.message = wait.message;
    return decision;
  }
  decision.action = Action::kStart;
  decision.placement = Place(pool, job);
  decision.reason = v1::REASON_SCHEDULED;
  return decision;
}

Wait ExplainWait(const Queue& queue, const Pool& pool, const WaitingJob& job) {
  const int total = pool.Total(job.device);
  if (job.ranks > total) {
    return {v1::REASON_NOT_ENOUGH_SLOTS_EXIST,
            absl::StrCat("needs ", SlotCount(job.ranks, job.device),
                         " at once; all live workers together have ", total,
                         ". Start another worker, or submit it again with fewer resources.ranks")};
  }
  const std::vector<std::string> missing = MissingHolders(pool, job);
  if (!missing.empty()) return HolderWait(missing);
  const WaitingJob* first = queue.First(job.device, total);
  if (first != nullptr && first->key < job.key) {
    return {v1::REASON_BEHIND_OTHER_JOB,
            absl::StrCat("behind ", first->job_id, ", which is first in line for ",
                         SlotCount(first->ranks, first->device))};
  }
  return SlotWait(pool, job);
}

std::string DeviceName(v1::Device device) {
  switch (device) {
    case v1::DEVICE_CPU:
      return "cpu";
    case v1::DEVICE_CUDA:
      return "cuda";
    default:
      return "unknown";
  }
}

}  // namespace sinkforge::server::scheduler
