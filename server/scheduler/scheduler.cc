// The policy; see scheduler.h.
#include "server/scheduler/scheduler.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/scheduler/explain.h"
#include "server/scheduler/order.h"
#include "server/scheduler/placement.h"

namespace sinkforge::server::scheduler {
namespace {

using Nanoseconds = std::chrono::nanoseconds;

// How many ranks it can start with now; fewer than min_ranks: it cannot. It does
// without unfit workers where it can.
int RanksNow(const Cluster& cluster, const WaitingJob& job) {
  const int most = std::min(job.ranks, cluster.shares.Left(job.name_space, job.device));
  const int free = cluster.pool.Free(job.device);
  const int elsewhere = free - cluster.pool.FreeOf(job.unfit, job.device);
  return std::min(most, elsewhere >= job.min_ranks ? elsewhere : free);
}

// It would start on an unfit worker, though others, busy now, have slots enough for it.
bool RatherWaits(const Cluster& cluster, const WaitingJob& job,
                 const std::vector<v1::RankPlacement>& placement) {
  const int elsewhere =
      cluster.pool.Total(job.device) - cluster.pool.TotalOf(job.unfit, job.device);
  if (elsewhere < job.min_ranks) return false;
  return std::any_of(placement.begin(), placement.end(), [&](const v1::RankPlacement& rank) {
    return std::binary_search(job.unfit.begin(), job.unfit.end(), rank.worker());
  });
}

// Backfilled on slots that are the head's.
bool IsLentBy(const RunningJob& running, const WaitingJob& head) {
  if (running.lent_from.empty() || running.stopping || running.device != head.device) return false;
  return running.lent_from == head.job_id || head.key < running.key;
}

struct Candidate {
  Victim victim;
  int ranks = 0;
  double at_risk = 0;
  int32_t priority = 0;
};

// What the head may take: lent slots before those of others; then the lowest priority, so that who
// is preempted does not preempt in turn; then the least work at risk.
std::vector<Candidate> Candidates(const Cluster& cluster, const WaitingJob& head, Nanoseconds now) {
  std::vector<Candidate> candidates;
  for (const auto& [number, running] : cluster.running.jobs()) {
    if (running.device != head.device || running.stopping) continue;
    const bool is_lent = IsLentBy(running, head);
    if (!is_lent && running.key.priority >= head.key.priority) continue;
    candidates.push_back({{number, is_lent ? Eviction::kAtOnce : Eviction::kCheckpointFirst},
                          running.ranks,
                          WorkAtRisk(running, now),
                          running.key.priority});
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::make_tuple(a.victim.how, a.priority, a.at_risk, -a.victim.number) <
           std::make_tuple(b.victim.how, b.priority, b.at_risk, -b.victim.number);
  });
  return candidates;
}

// The fewest of the first candidates that give `needed` slots; empty where all together do not.
std::vector<Victim> ChooseVictims(const Cluster& cluster, const WaitingJob& head, int needed,
                                  Nanoseconds now) {
  const int most =
      cluster.running.Lent(head.device) + cluster.running.Below(head.device, head.key.priority);
  if (most < needed) return {};
  std::vector<Candidate> chosen;
  int slots = 0;
  for (const Candidate& candidate : Candidates(cluster, head, now)) {
    if (slots >= needed) break;
    chosen.push_back(candidate);
    slots += candidate.ranks;
  }
  if (slots < needed) return {};
  std::vector<Victim> victims;
  // From the last ones on: who is not needed after all stays.
  for (auto it = chosen.rbegin(); it != chosen.rend(); ++it) {
    if (slots - it->ranks >= needed) {
      slots -= it->ranks;
    } else {
      victims.push_back(it->victim);
    }
  }
  std::reverse(victims.begin(), victims.end());
  return victims;
}

// Unless it rather waits.
Decision Start(const Cluster& cluster, const WaitingJob& job) {
  const int ranks = RanksNow(cluster, job);
  Decision decision;
  decision.job = &job;
  decision.placement = Place(cluster.pool, job, ranks);
  if (RatherWaits(cluster, job, decision.placement)) {
    decision.action = Action::kStepBack;
    return decision;
  }
  decision.action = Action::kStart;
  decision.reason = v1::REASON_SCHEDULED;
  if (ranks < job.ranks) {
    decision.message = absl::StrCat("with ", ranks, " of ", job.ranks,
                                    " ranks, which is what is "
                                    "free; grows when more is");
  }
  return decision;
}

Decision Park(const WaitingJob& job, std::vector<std::string> missing) {
  Decision decision;
  decision.action = Action::kPark;
  decision.job = &job;
  decision.missing = std::move(missing);
  Wait wait = HolderWait(decision.missing);
  decision.reason = wait.reason;
  decision.message = std::move(wait.message);
  return decision;
}

// What happens while the head cannot start.
Decision Hold(const Cluster& cluster, const WaitingJob& head, Nanoseconds now) {
  Decision decision;
  decision.job = &head;
  const v1::Device device = head.device;
  const int needed = head.min_ranks - cluster.pool.Free(device) - cluster.pool.Leaving(device) -
                     cluster.running.Stopping(device);
  // Slots that are on their way to the head are not lent again.
  if (needed > 0) {
    decision.victims = ChooseVictims(cluster, head, needed, now);
    if (!decision.victims.empty()) {
      decision.action = Action::kEvict;
      decision.reason = v1::REASON_PREEMPTED;
      decision.message =
          absl::StrCat("makes room for ", head.job_id, " (priority ", head.key.priority, ")");
      return decision;
    }
    if (const WaitingJob* job = Backfill(cluster, device); job != nullptr) {
      std::vector<std::string> missing = MissingHolders(cluster.pool, *job);
      if (!missing.empty()) return Park(*job, std::move(missing));
      decision = Start(cluster, *job);
      if (decision.action != Action::kStart) return decision;
      decision.lent_from = head.job_id;
      decision.message =
          absl::StrCat(decision.message, decision.message.empty() ? "" : "; ",
                       "backfilled on slots of ", head.job_id, ", which cannot use them yet");
      return decision;
    }
  }
  decision.action = Action::kWait;
  Wait wait = SlotWait(cluster, head);
  decision.reason = wait.reason;
  decision.message = std::move(wait.message);
  return decision;
}

// Nobody waits for what is free.
Decision Grow(const Cluster& cluster, v1::Device device, const PolicyOptions& options,
              Nanoseconds now) {
  Decision decision;
  if (cluster.pool.Free(device) == 0 || cluster.running.Stopping(device) > 0) return decision;
  for (const int64_t number : cluster.running.undersized()) {
    const RunningJob& job = cluster.running.jobs().at(number);
    if (job.device != device || now - job.started < options.grow_after) continue;
    const int free = cluster.pool.Free(device) - cluster.pool.FreeOf(job.unfit, device);
    const int more =
        std::min({job.ranks_wanted - job.ranks, free, cluster.shares.Left(job.name_space, device)});
    if (more <= 0) continue;
    decision.action = Action::kGrow;
    decision.victims = {{number, Eviction::kCheckpointFirst}};
    decision.reason = v1::REASON_RESIZED;
    decision.message =
        absl::StrCat("goes on with ", job.ranks + more, " instead of ", job.ranks, " ranks");
    return decision;
  }
  return decision;
}

}  // namespace

Decision Decide(const Cluster& cluster, v1::Device device, const PolicyOptions& options,
                Nanoseconds now) {
  const WaitingJob* head = Head(cluster, device);
  if (head == nullptr) return Grow(cluster, device, options, now);
  std::vector<std::string> missing = MissingHolders(cluster.pool, *head);
  if (!missing.empty()) return Park(*head, std::move(missing));
  if (RanksNow(cluster, *head) >= head->min_ranks) return Start(cluster, *head);
  return Hold(cluster, *head, now);
}

}  // namespace sinkforge::server::scheduler
