// ReportQueue: what the trainer has to tell its worker and the worker has not acknowledged yet. The
// training thread puts news in; the link's thread takes batches, and drops them once acknowledged,
// so that nothing is lost while the worker cannot be reached.
#pragma once

#include <chrono>
#include <deque>
#include <optional>
#include <string>

#include "base/mutex.h"
#include "sinkforge/v1/trainer_service.pb.h"

namespace sinkforge::trainer {

// Thread-safe.
class ReportQueue {
 public:
  // Training waits once this many records are not acknowledged: hours of a worker that is away, or
  // a few hundred megabytes.
  static constexpr size_t kRecordsMax = 10'000;
  // Of one report; a report stays far below the wire's limit on messages.
  static constexpr size_t kBatchRecordsMax = 500;
  static constexpr size_t kBatchBytesMax = size_t{2} << 20;

  explicit ReportQueue(std::string token) : token_(std::move(token)) {}

  void SetPhase(v1::RankPhase phase);
  void SetStart(const v1::AttemptStart& start);
  void SetStep(int64_t step);
  // Waits while the queue is full, unless it was closed.
  void AddRecord(v1::StepRecord record);
  void AddWarning(const std::string& warning);
  // The last report; nothing may be added after it.
  void SetEnd(v1::RankOutcome outcome, v1::Reason reason, const std::string& message);

  // Waits for news until `timeout`, then gives the report to send, with or without news; absent
  // once the queue is closed, or its end was acknowledged.
  std::optional<v1::TrainerReport> Next(std::chrono::nanoseconds timeout);
  // The worker has this report.
  void Acknowledge(const v1::TrainerReport& report);

  // Waits until the worker has the record of every step up to this one, or the queue is closed.
  void WaitForRecords(int64_t step);

  // No more reports: the attempt is over. Releases everyone who waits.
  void Close();
  bool closed() const;
  // Waits until the end is acknowledged or the queue closed; false when the time was over first.
  bool WaitForEnd(std::chrono::nanoseconds timeout);

 private:
  bool HasNewsLocked() const REQUIRES_LOCK(mutex_);

  const std::string token_;
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  std::deque<v1::StepRecord> records_ GUARDED_BY(mutex_);
  std::deque<std::string> warnings_ GUARDED_BY(mutex_);
  // Phase, start, step and end as the next report says them.
  v1::TrainerReport state_ GUARDED_BY(mutex_);
  bool state_is_news_ GUARDED_BY(mutex_) = true;
  bool end_acknowledged_ GUARDED_BY(mutex_) = false;
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace sinkforge::trainer
