// In-memory stores for tests: the simplest code that keeps the stores' contracts, so that the ones
// on disk can be compared with it; writes fail when told to.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "server/engine/history_store.h"
#include "server/engine/job_store.h"
#include "server/engine/log_store.h"

namespace sinkforge::server {

class MemoryJobStore final : public JobStore {
 public:
  // The next `count` writes (a probe is one) fail with `status` and keep nothing.
  void FailWrites(int count, const absl::Status& status) {
    base::MutexLock lock(&mutex_);
    failures_ = count;
    failure_ = status;
  }
  void FailLoads(int count) {
    base::MutexLock lock(&mutex_);
    load_failures_ = count;
  }
  // Blocks writes until released.
  void Hold() {
    base::MutexLock lock(&mutex_);
    is_held_ = true;
  }
  void Release() {
    base::MutexLock lock(&mutex_);
    is_held_ = false;
    changed_.NotifyAll();
  }
  void AwaitHeldWrite() {
    base::MutexLock lock(&mutex_);
    while (!is_waiting_) changed_.Wait(&lock);
  }
  int writes() const {
    base::MutexLock lock(&mutex_);
    return writes_;
  }

  absl::StatusOr<StoredJobs> Load() const override {
    base::MutexLock lock(&mutex_);
    if (load_failures_ > 0) {
      --load_failures_;
      return absl::UnavailableError("the disk is away");
    }
    StoredJobs stored;
    for (const auto& [id, job] : jobs_) stored.jobs.push_back(job);
    stored.next_job_number = next_job_number_;
    for (const auto& [name, settings] : namespaces_) stored.namespaces.push_back(settings);
    for (const auto& [worker, drain] : drains_) stored.drains.push_back(drain);
    return stored;
  }
  absl::Status Write(const Effects& effects) override {
    base::MutexLock lock(&mutex_);
    while (is_held_) {
      is_waiting_ = true;
      changed_.NotifyAll();
      changed_.Wait(&lock);
    }
    is_waiting_ = false;
    if (failures_ > 0) {
      --failures_;
      return failure_;
    }
    ++writes_;
    for (const v1::Job& job : effects.jobs) jobs_[job.job_id()] = job;
    for (const v1::Event& event : effects.events) {
      events_[event.job_id()][event.sequence()] = event;
    }
    for (const std::string& id : effects.deleted_jobs) {
      jobs_.erase(id);
      events_.erase(id);
    }
    if (effects.next_job_number.has_value()) next_job_number_ = *effects.next_job_number;
    for (const v1::Namespace& settings : effects.namespaces) {
      namespaces_[settings.namespace_()] = settings;
    }
    for (const auto& [worker, drain] : effects.drains) {
      drains_.erase(worker);
      if (drain.has_value()) drains_[worker] = *drain;
    }
    return absl::OkStatus();
  }
  absl::Status CheckWritable() override {
    base::MutexLock lock(&mutex_);
    if (failures_ == 0) return absl::OkStatus();
    --failures_;
    return failure_;
  }
  absl::StatusOr<std::vector<v1::Event>> ListEvents(const std::string& job_id,
                                                    int64_t after_sequence,
                                                    int limit) const override {
    base::MutexLock lock(&mutex_);
    std::vector<v1::Event> found;
    const auto events = events_.find(job_id);
    if (events == events_.end()) return found;
    for (const auto& [sequence, event] : events->second) {
      if (sequence > after_sequence && static_cast<int>(found.size()) < limit) {
        found.push_back(event);
      }
    }
    return found;
  }
  std::vector<JobBytes> EventBytes() const override {
    base::MutexLock lock(&mutex_);
    std::vector<JobBytes> all;
    for (const auto& [id, events] : events_) {
      int64_t bytes = 0;
      for (const auto& [sequence, event] : events) bytes += SizeOf(event);
      if (bytes > 0) all.push_back({id, bytes});
    }
    return all;
  }
  absl::Status TrimEvents(const std::string& job_id, int64_t bytes) override {
    base::MutexLock lock(&mutex_);
    auto& events = events_[job_id];
    for (int64_t freed = 0; freed < bytes && !events.empty();) {
      freed += SizeOf(events.begin()->second);
      events.erase(events.begin());
    }
    return absl::OkStatus();
  }

 private:
  static int64_t SizeOf(const v1::Event& event) {
    return static_cast<int64_t>(event.ByteSizeLong()) + 20;
  }

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  std::map<std::string, v1::Job> jobs_ GUARDED_BY(mutex_);
  std::map<std::string, std::map<int64_t, v1::Event>> events_ GUARDED_BY(mutex_);
  int64_t next_job_number_ GUARDED_BY(mutex_) = 1;
  std::map<std::string, v1::Namespace> namespaces_ GUARDED_BY(mutex_);
  std::map<std::string, v1::WorkerDrain> drains_ GUARDED_BY(mutex_);
  int failures_ GUARDED_BY(mutex_) = 0;
  absl::Status failure_ GUARDED_BY(mutex_);
  mutable int load_failures_ GUARDED_BY(mutex_) = 0;
  bool is_held_ GUARDED_BY(mutex_) = false;
  bool is_waiting_ GUARDED_BY(mutex_) = false;
  int writes_ GUARDED_BY(mutex_) = 0;
};

class MemoryHistoryStore final : public HistoryStore {
 public:
  absl::Status Append(const std::vector<v1::ReportStepsRequest>& group) override {
    base::MutexLock lock(&mutex_);
    for (const auto& report : group) {
      for (const auto& start : report.starts()) {
        starts_[report.job_id()].emplace(start.attempt(), start.restored_step());
      }
      for (const auto& record : report.steps()) {
        steps_[report.job_id()].emplace(std::make_pair(record.step(), record.attempt()), record);
      }
    }
    return absl::OkStatus();
  }
  absl::Status Read(const StepRange& range,
                    const std::function<bool(const v1::StepRecord&)>& visit) const override {
    for (const v1::StepRecord& record : Selected(range)) {
      if (!visit(record)) break;
    }
    return absl::OkStatus();
  }
  absl::StatusOr<StepExtent> Extent(const StepRange& range) const override {
    const auto selected = Selected(range);
    if (selected.empty()) return StepExtent();
    return StepExtent{selected.front().step(), selected.back().step()};
  }
  absl::StatusOr<std::vector<v1::AttemptStart>> Starts(const std::string& job_id) const override {
    base::MutexLock lock(&mutex_);
    std::vector<v1::AttemptStart> all;
    const auto found = starts_.find(job_id);
    if (found == starts_.end()) return all;
    for (const auto& [attempt, step] : found->second) {
      v1::AttemptStart start;
      start.set_attempt(attempt);
      start.set_restored_step(step);
      all.push_back(start);
    }
    return all;
  }
  std::vector<JobBytes> Bytes() const override {
    base::MutexLock lock(&mutex_);
    std::vector<JobBytes> all;
    for (const auto& [id, steps] : steps_) {
      int64_t bytes = 0;
      for (const auto& [key, record] : steps) bytes += SizeOf(record);
      if (bytes > 0) all.push_back({id, bytes});
    }
    return all;
  }
  absl::Status Trim(const std::string& job_id, int64_t bytes) override {
    base::MutexLock lock(&mutex_);
    auto& steps = steps_[job_id];
    for (int64_t freed = 0; freed < bytes && !steps.empty();) {
      freed += SizeOf(steps.begin()->second);
      steps.erase(steps.begin());
    }
    return absl::OkStatus();
  }
  absl::Status DeleteJob(const std::string& job_id) override {
    base::MutexLock lock(&mutex_);
    steps_.erase(job_id);
    starts_.erase(job_id);
    return absl::OkStatus();
  }

 private:
  static int64_t SizeOf(const v1::StepRecord& record) {
    return static_cast<int64_t>(record.ByteSizeLong()) + 20;
  }

  // The rule as it is worded, one record at a time.
  std::vector<v1::StepRecord> Selected(const StepRange& range) const {
    base::MutexLock lock(&mutex_);
    std::map<int64_t, v1::StepRecord> by_step;
    const auto steps = steps_.find(range.job_id);
    const auto starts = starts_.find(range.job_id);
    if (steps == steps_.end()) return {};
    for (const auto& [key, record] : steps->second) {
      const auto [step, attempt] = key;
      if (step < range.first_step || step > range.last_step) continue;
      bool counts = true;
      if (range.attempt.has_value()) {
        counts = attempt == *range.attempt;
      } else if (starts != starts_.end()) {
        for (const auto& [later, restored] : starts->second) {
          if (later > attempt && step > restored) counts = false;
        }
      }
      if (counts) by_step[step] = record;
    }
    std::vector<v1::StepRecord> selected;
    for (const auto& [step, record] : by_step) selected.push_back(record);
    return selected;
  }

  mutable base::Mutex mutex_;
  std::map<std::string, std::map<std::pair<int64_t, int64_t>, v1::StepRecord>> steps_
      GUARDED_BY(mutex_);
  std::map<std::string, std::map<int64_t, int64_t>> starts_ GUARDED_BY(mutex_);
};

class MemoryLogStore final : public LogStore {
 public:
  absl::Status Append(const std::vector<v1::AppendLogsRequest>& group) override {
    base::MutexLock lock(&mutex_);
    for (const auto& request : group) {
      Logs& logs = logs_[request.job_id()];
      for (const auto& line : request.lines()) {
        const bool is_new =
            logs.seen.insert({{line.attempt(), line.rank(), line.sequence()}, true}).second;
        if (is_new) logs.lines[++logs.last] = line;
      }
    }
    return absl::OkStatus();
  }
  absl::Status Read(const LogSelection& selection, int64_t after,
                    const std::function<bool(int64_t, const v1::LogLine&)>& visit) const override {
    base::MutexLock lock(&mutex_);
    for (const auto& [number, line] : Selected(selection)) {
      if (number > after && !visit(number, line)) break;
    }
    return absl::OkStatus();
  }
  absl::StatusOr<int64_t> TailStart(const LogSelection& selection, int64_t lines) const override {
    base::MutexLock lock(&mutex_);
    const auto selected = Selected(selection);
    const int64_t hidden = static_cast<int64_t>(selected.size()) - lines;
    return hidden <= 0 ? 0 : std::next(selected.begin(), hidden - 1)->first;
  }
  std::vector<JobBytes> Bytes() const override {
    base::MutexLock lock(&mutex_);
    std::vector<JobBytes> all;
    for (const auto& [id, logs] : logs_) {
      int64_t bytes = 0;
      for (const auto& [number, line] : logs.lines) bytes += SizeOf(line);
      if (bytes > 0) all.push_back({id, bytes});
    }
    return all;
  }
  absl::Status Trim(const std::string& job_id, int64_t bytes) override {
    base::MutexLock lock(&mutex_);
    auto& lines = logs_[job_id].lines;
    for (int64_t freed = 0; freed < bytes && !lines.empty();) {
      freed += SizeOf(lines.begin()->second);
      lines.erase(lines.begin());
    }
    return absl::OkStatus();
  }
  absl::Status DeleteJob(const std::string& job_id) override {
    base::MutexLock lock(&mutex_);
    logs_.erase(job_id);
    return absl::OkStatus();
  }

 private:
  struct Logs {
    std::map<int64_t, v1::LogLine> lines;
    std::map<std::tuple<int64_t, int32_t, int64_t>, bool> seen;
    int64_t last = 0;
  };

  static int64_t SizeOf(const v1::LogLine& line) {
    return static_cast<int64_t>(line.ByteSizeLong()) + 60;
  }

  std::map<int64_t, v1::LogLine> Selected(const LogSelection& selection) const {
    std::map<int64_t, v1::LogLine> selected;
    const auto logs = logs_.find(selection.job_id);
    if (logs == logs_.end()) return selected;
    for (const auto& [number, line] : logs->second.lines) {
      const bool wanted = line.attempt() == selection.attempt.value_or(line.attempt()) &&
                          line.rank() == selection.rank.value_or(line.rank());
      if (wanted) selected[number] = line;
    }
    return selected;
  }

  mutable base::Mutex mutex_;
  std::map<std::string, Logs> logs_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::server
