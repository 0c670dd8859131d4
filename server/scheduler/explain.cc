// Reasons and remedies; see explain.h.
#include "server/scheduler/explain.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/scheduler/order.h"

namespace sinkforge::server::scheduler {
namespace {

constexpr int kAheadMax = 5;    // named; the others are counted
constexpr int kHoldersMax = 3;  // jobs named that hold slots
constexpr int kDrainedMax = 3;  // workers named that are drained

// "4 cpu slots", or of an elastic job "1 to 4 cpu slots".
std::string Needs(const WaitingJob& job) {
  return absl::StrCat(job.min_ranks < job.ranks ? absl::StrCat(job.min_ranks, " to ") : "",
                      SlotCount(job.ranks, job.device));
}

std::string QuotaFlag(v1::Device device) {
  return absl::StrCat("--", DeviceName(device), "-slots");
}

// "worker w1, which has 2 cpu slots, is drained", and how to undo it.
std::string DrainText(const DrainedSlots& drained, v1::Device device) {
  std::vector<std::string> names;
  for (const std::string& name : drained.workers) {
    if (static_cast<int>(names.size()) == kDrainedMax) break;
    names.push_back(name);
  }
  const size_t rest = drained.workers.size() - names.size();
  const bool is_one = drained.workers.size() == 1;
  return absl::StrCat(is_one ? "worker " : "workers ", absl::StrJoin(names, ", "),
                      rest > 0 ? absl::StrCat(" and ", rest, " more") : "",
                      is_one ? ", which has " : ", which have ", SlotCount(drained.total, device),
                      is_one ? ", is" : ", are", " drained; `sinkforge undrain ",
                      absl::StrJoin(names, " "), "` puts ", is_one ? "it" : "them",
                      " into use again");
}

Wait NotEnough(const Cluster& cluster, const WaitingJob& job) {
  const int total = cluster.pool.Total(job.device);
  const std::string device = DeviceName(job.device);
  const DrainedSlots& drained = cluster.pool.Drained(job.device);
  if (drained.total > 0 && job.min_ranks <= total + drained.total) {
    return {v1::REASON_NOT_ENOUGH_SLOTS_EXIST,
            absl::StrCat("needs ", Needs(job), "; ",
                         total > 0 ? absl::StrCat("workers in use have ", total, ", and ") : "",
                         DrainText(drained, job.device))};
  }
  if (total == 0) {
    return {v1::REASON_NOT_ENOUGH_SLOTS_EXIST,
            absl::StrCat("needs ", Needs(job), "; no live worker offers ", device,
                         " slots. Start one that does, or submit it again for another "
                         "resources.device")};
  }
  return {v1::REASON_NOT_ENOUGH_SLOTS_EXIST,
          absl::StrCat("needs ", SlotCount(job.min_ranks, job.device),
                       " at once; all live workers together have ", total,
                       ". Start another worker, or submit it again with fewer resources.ranks")};
}

// Not even all of its namespace's slots would do: no other job's end lets it run.
bool IsBeyondQuota(const Cluster& cluster, const WaitingJob& job) {
  return job.min_ranks > cluster.shares.Limit(job.name_space, job.device);
}

Wait BeyondQuota(const Cluster& cluster, const WaitingJob& job) {
  return {
      v1::REASON_NOT_ENOUGH_SLOTS_EXIST,
      absl::StrCat("needs ", SlotCount(job.min_ranks, job.device), " at once; namespace ",
                   job.name_space, " may use ", cluster.shares.Limit(job.name_space, job.device),
                   " at most. Raise its quota (`sinkforge namespaces set ", job.name_space, " ",
                   QuotaFlag(job.device), " ",
                   cluster.shares.Used(job.name_space, job.device) + job.min_ranks,
                   "`), or submit it again with fewer resources.ranks or for another "
                   "namespace")};
}

// Empty where the quota is no obstacle.
std::string QuotaObstacle(const Cluster& cluster, const WaitingJob& job) {
  const int limit = cluster.shares.Limit(job.name_space, job.device);
  if (job.min_ranks <= cluster.shares.Left(job.name_space, job.device)) return "";
  return absl::StrCat("needs ", Needs(job), "; namespace ", job.name_space, " uses ",
                      cluster.shares.Used(job.name_space, job.device), " of the ", limit,
                      " that it may");
}

// Whose slots would do, those first that free the most; none where nothing runs.
std::string SlotHolders(const Cluster& cluster, const WaitingJob& job, bool own_namespace) {
  std::vector<const RunningJob*> jobs;
  for (const auto& [number, running] : cluster.running.jobs()) {
    if (running.device != job.device) continue;
    if (own_namespace && running.name_space != job.name_space) continue;
    jobs.push_back(&running);
  }
  std::stable_sort(jobs.begin(), jobs.end(),
                   [](const auto* a, const auto* b) { return a->ranks > b->ranks; });
  std::vector<std::string> texts;
  for (const RunningJob* running : jobs) {
    if (static_cast<int>(texts.size()) == kHoldersMax) break;
    texts.push_back(
        absl::StrCat(running->job_id, " (", SlotCount(running->ranks, job.device), ")"));
  }
  const size_t rest = jobs.size() - texts.size();
  if (rest > 0) texts.push_back(absl::StrCat(rest, " more"));
  return absl::StrJoin(texts, ", ");
}

void AddQuotaRemedies(const Cluster& cluster, const WaitingJob& job, v1::JobWait* wait) {
  const int used = cluster.shares.Used(job.name_space, job.device);
  const std::string holders = SlotHolders(cluster, job, /*own_namespace=*/true);
  if (!holders.empty() && !IsBeyondQuota(cluster, job)) {
    wait->add_would_run(absl::StrCat("the end of jobs of its namespace that run now: ", holders));
  }
  wait->add_would_run(absl::StrCat("a larger quota: `sinkforge namespaces set ", job.name_space,
                                   " ", QuotaFlag(job.device), " ", used + job.min_ranks, "`"));
}

void AddSlotRemedies(const Cluster& cluster, const WaitingJob& job, v1::JobWait* wait) {
  const int total = cluster.pool.Total(job.device);
  const int free = cluster.pool.Free(job.device);
  const int coming = cluster.pool.Leaving(job.device) + cluster.running.Stopping(job.device);
  const int lacking = job.min_ranks - free;
  if (lacking <= 0) return;
  if (coming > 0) {
    wait->add_would_run(absl::StrCat(SlotCount(coming, job.device), " on ",
                                     coming == 1 ? "its" : "their",
                                     " way: what ran there is being stopped"));
  }
  const std::string holders = SlotHolders(cluster, job, /*own_namespace=*/false);
  if (!holders.empty() && job.min_ranks <= total) {
    wait->add_would_run(absl::StrCat(SlotCount(lacking, job.device),
                                     " more: wait for, `sinkforge pause` or `sinkforge cancel` ",
                                     holders));
  }
  const int wanted = job.min_ranks <= total ? lacking : job.min_ranks - total;
  wait->add_would_run(absl::StrCat("another worker with ", SlotCount(wanted, job.device)));
}

void AddDrained(const Cluster& cluster, const WaitingJob& job, v1::JobWait* wait) {
  int named = 0;
  for (const std::string& name : cluster.pool.Drained(job.device).workers) {
    if (++named > kDrainedMax) return;
    const int slots = cluster.pool.workers().at(name).drained.at(job.device);
    wait->add_would_run(absl::StrCat("the ", SlotCount(slots, job.device),
                                     " of a drained worker: `sinkforge undrain ", name, "`"));
  }
}

// With the next priority it would be before those ahead, or could preempt what has its own now.
bool HigherPriorityHelps(const Cluster& cluster, const WaitingJob& job, int64_t ahead_count) {
  if (job.min_ranks > cluster.pool.Total(job.device)) return false;
  if (ahead_count > 0) return true;
  const int free = cluster.pool.Free(job.device);
  return job.min_ranks > free &&
         job.min_ranks <= free + cluster.running.Below(job.device, job.key.priority + 1);
}

}  // namespace

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
                       missing.size() == 1 ? ", which is away; start it, or give it up with "
                                           : ", which are away; start them, or give them up with ",
                       "`sinkforge forget ", absl::StrJoin(missing, " "), "`")};
}

Wait SlotWait(const Cluster& cluster, const WaitingJob& job) {
  const int coming = cluster.pool.Leaving(job.device) + cluster.running.Stopping(job.device);
  return {v1::REASON_WAITING_FOR_SLOTS,
          absl::StrCat("needs ", Needs(job), "; ", cluster.pool.Free(job.device), " of ",
                       cluster.pool.Total(job.device), " free",
                       coming > 0 ? absl::StrCat(", ", coming, " being freed") : "",
                       "; first in line")};
}

Wait ExplainWait(const Cluster& cluster, const WaitingJob& job) {
  if (IsBeyondQuota(cluster, job)) return BeyondQuota(cluster, job);
  // Without its checkpoint it would not run on any slot either.
  const std::vector<std::string> missing = MissingHolders(cluster.pool, job);
  if (!missing.empty()) return HolderWait(missing);
  if (job.min_ranks > cluster.pool.Total(job.device)) return NotEnough(cluster, job);
  const std::string quota = QuotaObstacle(cluster, job);
  if (!quota.empty()) return {v1::REASON_WAITING_FOR_QUOTA, quota};
  const WaitingJob* head = Head(cluster, job.device);
  if (head == nullptr || head->job_id == job.job_id) return SlotWait(cluster, job);
  // Its namespace may be held back by a job before it that waits for quota.
  const auto& names = cluster.queue.Namespaces(job.device);
  if (const auto classes = names.find(job.name_space); classes != names.end()) {
    const WaitingJob* first = HeadOfNamespace(cluster, job.device, job.name_space, classes->second);
    if (first != nullptr && first->key < job.key) {
      const std::string theirs = QuotaObstacle(cluster, *first);
      if (!theirs.empty()) {
        return {v1::REASON_BEHIND_OTHER_JOB,
                absl::StrCat("behind ", first->job_id, " of the same namespace, which ", theirs)};
      }
    }
  }
  return {v1::REASON_BEHIND_OTHER_JOB,
          absl::StrCat("behind ", head->job_id, ", which is first in line for ", Needs(*head))};
}

v1::JobWait ExplainInFull(const Cluster& cluster, const WaitingJob& job) {
  v1::JobWait wait;
  // A bounded set of the first ones, in the order of service.
  const auto before = [&](const WaitingJob* a, const WaitingJob* b) {
    return IsBefore(cluster, *a, *b);
  };
  std::set<const WaitingJob*, decltype(before)> first(before);
  for (const auto& [name, classes] : cluster.queue.Namespaces(job.device)) {
    for (const auto& [ranks, jobs] : classes) {
      for (const auto& [key, other] : jobs) {
        if (!IsBefore(cluster, other, job)) break;
        // It holds up its own namespace alone.
        if (name != job.name_space && !QuotaObstacle(cluster, other).empty()) continue;
        wait.set_ahead_count(wait.ahead_count() + 1);
        first.insert(&other);
        if (first.size() > kAheadMax) first.erase(std::prev(first.end()));
      }
    }
  }
  for (const WaitingJob* other : first) wait.add_ahead(other->job_id);
  if (!QuotaObstacle(cluster, job).empty()) {
    AddQuotaRemedies(cluster, job, &wait);
    return wait;  // nothing else would help
  }
  AddSlotRemedies(cluster, job, &wait);
  if (HigherPriorityHelps(cluster, job, wait.ahead_count())) {
    wait.add_would_run(absl::StrCat("a higher priority than ", job.key.priority,
                                    ", which also preempts jobs of lower priority: submit it "
                                    "again with --set priority=",
                                    job.key.priority + 1));
  }
  AddDrained(cluster, job, &wait);
  return wait;
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

std::string SlotCount(int count, v1::Device device) {
  return absl::StrCat(count, " ", DeviceName(device), count == 1 ? " slot" : " slots");
}

}  // namespace sinkforge::server::scheduler
