// Budgets and left-overs; see retention.h.
#include "server/engine/retention.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "base/log.h"

namespace sinkforge::server {
namespace {

constexpr int64_t kTrimBytesMax = 8 << 20;  // of one write, which holds the store's lock

// Sums by job.
std::vector<JobBytes> Merge(const std::vector<JobBytes>& a, const std::vector<JobBytes>& b) {
  std::map<std::string, int64_t> sums;
  for (const JobBytes& use : a) sums[use.job_id] += use.bytes;
  for (const JobBytes& use : b) sums[use.job_id] += use.bytes;
  std::vector<JobBytes> merged;
  for (const auto& [job_id, bytes] : sums) merged.push_back({job_id, bytes});
  return merged;
}

// Calls `trim` with small portions until `bytes` are done.
template <typename TrimFn>
absl::Status InPortions(int64_t bytes, TrimFn trim) {
  for (int64_t left = bytes; left > 0; left -= kTrimBytesMax) {
    const absl::Status trimmed = trim(std::min(left, kTrimBytesMax));
    if (!trimmed.ok()) return trimmed;
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<Trim> DecideTrims(std::vector<JobUse> uses, int64_t budget_bytes) {
  int64_t total = 0;
  for (const JobUse& use : uses) total += use.bytes;
  std::vector<Trim> trims;
  if (total <= budget_bytes) return trims;
  int64_t excess = total - (budget_bytes - budget_bytes / 10);
  std::sort(uses.begin(), uses.end(), [](const JobUse& a, const JobUse& b) {
    return std::tie(b.is_finished, a.end_seconds, a.job_id) <
           std::tie(a.is_finished, b.end_seconds, b.job_id);
  });
  int64_t unfinished_bytes = 0;
  for (const JobUse& use : uses) {
    if (!use.is_finished) unfinished_bytes += use.bytes;
    if (!use.is_finished || excess <= 0) continue;
    trims.push_back({use.job_id, use.bytes, true});
    excess -= use.bytes;
  }
  if (excess <= 0 || unfinished_bytes == 0) return trims;
  const double share =
      std::min(1.0, static_cast<double>(excess) / static_cast<double>(unfinished_bytes));
  for (const JobUse& use : uses) {
    if (use.is_finished) continue;
    trims.push_back(
        {use.job_id, static_cast<int64_t>(share * static_cast<double>(use.bytes)) + 1, false});
  }
  return trims;
}

absl::Status Retention::LookUp(std::vector<JobBytes> all, std::vector<JobUse>* uses,
                               std::vector<std::string>* gone) const {
  return engine_->ReadAndWait([&](const Coordinator& coordinator, const base::Now&) {
    for (const JobBytes& entry : all) {
      const v1::Job* job = coordinator.Find(entry.job_id);
      if (job == nullptr) {
        gone->push_back(entry.job_id);
        continue;
      }
      uses->push_back(
          {entry.job_id, entry.bytes, IsFinal(job->state()), job->end_time().seconds()});
    }
  });
}

absl::Status Retention::TrimHistory(const Trim& trim) {
  if (trim.is_whole) {
    const absl::Status deleted = history_->DeleteJob(trim.job_id);
    if (!deleted.ok()) return deleted;
    return jobs_->TrimEvents(trim.job_id, trim.bytes);
  }
  // Events first: they are few, and a job's last ones stay unless they alone exceed the budget.
  int64_t event_bytes = 0;
  for (const JobBytes& use : jobs_->EventBytes()) {
    if (use.job_id == trim.job_id) event_bytes = use.bytes;
  }
  const int64_t from_events = std::min(trim.bytes, event_bytes / 2);
  absl::Status trimmed =
      InPortions(from_events, [&](int64_t bytes) { return jobs_->TrimEvents(trim.job_id, bytes); });
  if (!trimmed.ok()) return trimmed;
  return InPortions(trim.bytes - from_events,
                    [&](int64_t bytes) { return history_->Trim(trim.job_id, bytes); });
}

absl::Status Retention::TrimLogs(const Trim& trim) {
  if (trim.is_whole) return logs_->DeleteJob(trim.job_id);
  return InPortions(trim.bytes, [&](int64_t bytes) { return logs_->Trim(trim.job_id, bytes); });
}

absl::Status Retention::Pass() {
  // The stores are asked before the engine: a job that they know existed before, so one that the
  // engine does not know now has been deleted since.
  std::vector<JobUse> history_uses;
  std::vector<JobUse> log_uses;
  std::vector<std::string> gone;
  absl::Status status = LookUp(Merge(history_->Bytes(), jobs_->EventBytes()), &history_uses, &gone);
  if (!status.ok()) return status;
  status = LookUp(logs_->Bytes(), &log_uses, &gone);
  if (!status.ok()) return status;
  for (const std::string& job_id : gone) {
    status = history_->DeleteJob(job_id);
    if (!status.ok()) return status;
    status = logs_->DeleteJob(job_id);
    if (!status.ok()) return status;
  }
  for (const Trim& trim : DecideTrims(std::move(history_uses), options_.history_bytes)) {
    base::LogWarning("history budget exceeded: the oldest records of a job go",
                     {{"job", trim.job_id}, {"bytes", trim.bytes}});
    status = TrimHistory(trim);
    if (!status.ok()) return status;
  }
  for (const Trim& trim : DecideTrims(std::move(log_uses), options_.log_bytes)) {
    base::LogWarning("log budget exceeded: the oldest lines of a job go",
                     {{"job", trim.job_id}, {"bytes", trim.bytes}});
    status = TrimLogs(trim);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace sinkforge::server
