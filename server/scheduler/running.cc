// Sums over attempts under way; see running.h.
#include "server/scheduler/running.h"

#include "base/check.h"

namespace sinkforge::server::scheduler {

double WorkAtRisk(const RunningJob& job, std::chrono::nanoseconds now) {
  return std::chrono::duration<double>(now - job.safe_until).count() * job.ranks;
}

void Running::Add(const RunningJob& job) {
  SINKFORGE_REQUIRE(jobs_.emplace(job.key.number, job).second);
  if (job.ranks < job.ranks_wanted) undersized_.insert(job.key.number);
  if (!job.lent_from.empty()) borrowers_[job.lent_from].insert(job.key.number);
  Count(job, 1);
}

void Running::Remove(int64_t number) {
  const auto job = jobs_.find(number);
  if (job == jobs_.end()) return;
  Count(job->second, -1);
  undersized_.erase(number);
  if (const auto lender = borrowers_.find(job->second.lent_from); lender != borrowers_.end()) {
    lender->second.erase(number);
    if (lender->second.empty()) borrowers_.erase(lender);
  }
  jobs_.erase(job);
}

std::vector<int64_t> Running::GiveAway(const std::string& job_id) {
  const auto lender = borrowers_.find(job_id);
  if (lender == borrowers_.end()) return {};
  const std::vector<int64_t> numbers(lender->second.begin(), lender->second.end());
  borrowers_.erase(lender);
  for (const int64_t number : numbers) {
    RunningJob& job = jobs_.at(number);
    Count(job, -1);
    job.lent_from.clear();
    Count(job, 1);
  }
  return numbers;
}

void Running::SetStopping(int64_t number, bool stopping) {
  RunningJob& job = jobs_.at(number);
  Count(job, -1);
  job.stopping = stopping;
  Count(job, 1);
}

void Running::SetSafe(int64_t number, std::chrono::nanoseconds safe_until) {
  const auto job = jobs_.find(number);
  if (job != jobs_.end()) job->second.safe_until = safe_until;
}

int Running::Stopping(v1::Device device) const {
  const Sums* sums = SumsOf(device);
  return sums == nullptr ? 0 : sums->stopping;
}

int Running::Lent(v1::Device device) const {
  const Sums* sums = SumsOf(device);
  return sums == nullptr ? 0 : sums->lent;
}

int Running::Below(v1::Device device, int32_t priority) const {
  const Sums* sums = SumsOf(device);
  int slots = 0;
  if (sums == nullptr) return slots;
  for (auto it = sums->by_priority.begin(); it != sums->by_priority.end() && it->first < priority;
       ++it) {
    slots += it->second;
  }
  return slots;
}

void Running::Count(const RunningJob& job, int sign) {
  Sums& sums = sums_[job.device];
  const int slots = sign * job.ranks;
  if (job.stopping) {
    sums.stopping += slots;
    return;
  }
  if (!job.lent_from.empty()) sums.lent += slots;
  int& at = sums.by_priority[job.key.priority];
  at += slots;
  if (at == 0) sums.by_priority.erase(job.key.priority);
}

const Running::Sums* Running::SumsOf(v1::Device device) const {
  const auto sums = sums_.find(device);
  return sums == sums_.end() ? nullptr : &sums->second;
}

}  // namespace sinkforge::server::scheduler
