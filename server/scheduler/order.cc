// Comparing the namespaces' heads; see order.h. There are few namespaces, however long the queue.
#include "server/scheduler/order.h"

#include <algorithm>

namespace sinkforge::server::scheduler {
namespace {

bool HasQuota(const Cluster& cluster, const WaitingJob& job) {
  return job.min_ranks <= cluster.shares.Left(job.name_space, job.device);
}

}  // namespace

bool IsBefore(const Cluster& cluster, const WaitingJob& a, const WaitingJob& b) {
  if (a.key.priority != b.key.priority) return a.key.priority > b.key.priority;
  if (a.name_space != b.name_space) {
    const double share_a = cluster.shares.Share(a.name_space, a.device);
    const double share_b = cluster.shares.Share(b.name_space, b.device);
    if (share_a != share_b) return share_a < share_b;
  }
  return a.key < b.key;
}

const WaitingJob* HeadOfNamespace(const Cluster& cluster, v1::Device device,
                                  const std::string& name, const Queue::Classes& classes) {
  const int most = std::min(cluster.pool.Total(device), cluster.shares.Limit(name, device));
  return Queue::First(classes, most);
}

const WaitingJob* Head(const Cluster& cluster, v1::Device device) {
  const WaitingJob* head = nullptr;
  for (const auto& [name, classes] : cluster.queue.Namespaces(device)) {
    const WaitingJob* job = HeadOfNamespace(cluster, device, name, classes);
    if (job == nullptr || !HasQuota(cluster, *job)) continue;
    if (head == nullptr || IsBefore(cluster, *job, *head)) head = job;
  }
  return head;
}

const WaitingJob* Backfill(const Cluster& cluster, v1::Device device) {
  const int free = cluster.pool.Free(device);
  if (free == 0) return nullptr;
  const WaitingJob* best = nullptr;
  for (const auto& [name, classes] : cluster.queue.Namespaces(device)) {
    // Behind a job that waits for its namespace's quota nobody of the namespace uses that up.
    const WaitingJob* first = HeadOfNamespace(cluster, device, name, classes);
    if (first == nullptr || !HasQuota(cluster, *first)) continue;
    const int most = std::min(free, cluster.shares.Left(name, device));
    const WaitingJob* job = Queue::First(classes, most);
    if (job == nullptr) continue;
    if (best == nullptr || IsBefore(cluster, *job, *best)) best = job;
  }
  return best;
}

}  // namespace sinkforge::server::scheduler
