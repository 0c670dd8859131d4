// One report is in flight at a time, so that an acknowledgement always concerns the front.
#include "worker/trainer/report_queue.h"

#include <algorithm>

namespace sinkforge::trainer {

void ReportQueue::SetPhase(v1::RankPhase phase) {
  const base::MutexLock lock(&mutex_);
  state_.set_phase(phase);
  state_is_news_ = true;
  changed_.NotifyAll();
}

void ReportQueue::SetStart(const v1::AttemptStart& start) {
  const base::MutexLock lock(&mutex_);
  *state_.mutable_start() = start;
  state_is_news_ = true;
  changed_.NotifyAll();
}

void ReportQueue::SetStep(int64_t step) {
  const base::MutexLock lock(&mutex_);
  state_.set_step(step);
  state_is_news_ = true;
  changed_.NotifyAll();
}

void ReportQueue::AddRecord(v1::StepRecord record) {
  base::MutexLock lock(&mutex_);
  while (records_.size() >= kRecordsMax && !closed_) changed_.Wait(&lock);
  if (closed_) return;
  records_.push_back(std::move(record));
  changed_.NotifyAll();
}

void ReportQueue::AddWarning(const std::string& warning) {
  const base::MutexLock lock(&mutex_);
  warnings_.push_back(warning);
  changed_.NotifyAll();
}

void ReportQueue::SetEnd(v1::RankOutcome outcome, v1::Reason reason, const std::string& message) {
  const base::MutexLock lock(&mutex_);
  state_.set_phase(v1::RANK_PHASE_ENDED);
  state_.set_outcome(outcome);
  state_.set_reason(reason);
  state_.set_message(message);
  state_is_news_ = true;
  changed_.NotifyAll();
}

bool ReportQueue::HasNewsLocked() const {
  return state_is_news_ || !records_.empty() || !warnings_.empty();
}

std::optional<v1::TrainerReport> ReportQueue::Next(std::chrono::nanoseconds timeout) {
  base::MutexLock lock(&mutex_);
  // A spurious wake-up sends a report a little early, which does no harm.
  if (!HasNewsLocked() && !closed_ && !end_acknowledged_) changed_.WaitFor(&lock, timeout);
  if (closed_ || end_acknowledged_) return std::nullopt;
  v1::TrainerReport report = state_;
  report.set_token(token_);
  size_t bytes = 0;
  for (const v1::StepRecord& record : records_) {
    if (static_cast<size_t>(report.steps_size()) >= kBatchRecordsMax || bytes >= kBatchBytesMax) {
      break;
    }
    bytes += record.ByteSizeLong();
    *report.add_steps() = record;
  }
  for (const std::string& warning : warnings_) report.add_warnings(warning);
  // The end is told last, after every record.
  if (static_cast<size_t>(report.steps_size()) < records_.size() &&
      report.phase() == v1::RANK_PHASE_ENDED) {
    report.set_phase(v1::RANK_PHASE_TRAINING);
    report.clear_outcome();
    report.clear_reason();
    report.clear_message();
  } else {
    state_is_news_ = false;
  }
  return report;
}

void ReportQueue::Acknowledge(const v1::TrainerReport& report) {
  const base::MutexLock lock(&mutex_);
  records_.erase(records_.begin(), records_.begin() + report.steps_size());
  warnings_.erase(warnings_.begin(), warnings_.begin() + report.warnings_size());
  if (report.has_start()) state_.clear_start();
  if (report.phase() == v1::RANK_PHASE_ENDED) end_acknowledged_ = true;
  changed_.NotifyAll();
}

void ReportQueue::WaitForRecords(int64_t step) {
  base::MutexLock lock(&mutex_);
  while (!closed_ && !records_.empty() && records_.front().step() <= step) changed_.Wait(&lock);
}

void ReportQueue::Close() {
  const base::MutexLock lock(&mutex_);
  closed_ = true;
  changed_.NotifyAll();
}

bool ReportQueue::closed() const {
  const base::MutexLock lock(&mutex_);
  return closed_;
}

bool ReportQueue::WaitForEnd(std::chrono::nanoseconds timeout) {
  base::MutexLock lock(&mutex_);
  std::chrono::nanoseconds left = timeout;
  constexpr std::chrono::milliseconds kSlice(50);  // bounds what a spurious wake-up can add
  while (!end_acknowledged_ && !closed_ && left.count() > 0) {
    changed_.WaitFor(&lock, std::min<std::chrono::nanoseconds>(kSlice, left));
    left -= kSlice;
  }
  return end_acknowledged_ || closed_;
}

}  // namespace sinkforge::trainer
