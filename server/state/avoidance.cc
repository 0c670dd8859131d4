// Workers to avoid; see avoidance.h.
#include "server/state/avoidance.h"

#include <algorithm>

namespace sinkforge::server {
namespace {

constexpr int kAvoidedMax = 16;  // workers remembered of a job: the latest

}  // namespace

void Avoid(Call* call, JobRecord* record, const std::string& worker, Avoidance avoidance) {
  if (worker.empty()) return;
  auto* avoided = record->job.mutable_avoided_workers();
  for (int i = avoided->size() - 1; i >= 0; --i) {
    const bool is_over = base::FromProto(avoided->Get(i).until()) <= call->now().wall;
    if (is_over || avoided->Get(i).worker() == worker) avoided->DeleteSubrange(i, 1);
  }
  if (avoided->size() >= kAvoidedMax) avoided->DeleteSubrange(0, 1);
  v1::AvoidedWorker* entry = avoided->Add();
  entry->set_worker(worker);
  entry->set_unfit(avoidance == Avoidance::kUnfit);
  *entry->mutable_until() = base::ToProto(
      call->now().wall + std::chrono::duration_cast<std::chrono::system_clock::duration>(
                             call->options().avoid_worker_for));
}

std::vector<std::string> AvoidedAt(const v1::Job& job, const base::Now& now, Avoidance avoidance) {
  std::vector<std::string> names;
  for (const v1::AvoidedWorker& avoided : job.avoided_workers()) {
    if (base::FromProto(avoided.until()) <= now.wall) continue;
    if (avoidance == Avoidance::kUnfit && !avoided.unfit()) continue;
    names.push_back(avoided.worker());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool FitsElsewhere(const State& state, const v1::Job& job, const base::Now& now) {
  const scheduler::Pool& pool = state.cluster.pool;
  const v1::Device device = job.spec().resources().device();
  const int unfit = pool.TotalOf(AvoidedAt(job, now, Avoidance::kUnfit), device);
  return pool.Total(device) - unfit >= LeastRanks(job.spec());
}

int LeastRanks(const v1::JobSpec& spec) {
  const int ranks = std::max(1, spec.resources().ranks());
  // Jobs that were stored before there were elastic ones do not say.
  const int least = spec.resources().min_ranks();
  return least < 1 ? ranks : std::min(least, ranks);
}

}  // namespace sinkforge::server
