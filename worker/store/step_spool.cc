// The step spool's table: spool_step job attempt step -> StepRecord; step 0 is the AttemptStart, so
// that an attempt's start comes before its steps.
#include "worker/store/step_spool.h"

#include <algorithm>
#include <set>
#include <utility>

#include "worker/keys.h"

namespace sinkforge::worker {
namespace {

constexpr char kTable[] = "spool_step";
constexpr int kRecordsMax = 512;
constexpr int64_t kBytesMax = 1 << 20;  // an eighth of the largest message

std::string Row(const std::string& job_id, int64_t attempt, int64_t step) {
  return base::KeyBuilder(kTable).Text(job_id).Number(attempt).Number(step).key();
}

bool ReadRow(std::string_view row, std::string* job_id, int64_t* attempt, int64_t* step) {
  base::KeyReader reader(row);
  std::string table;
  return reader.Text(&table) && reader.Text(job_id) && reader.Number(attempt) &&
         reader.Number(step);
}

}  // namespace

StepSpool::StepSpool(base::KvStore* store, std::function<void()> on_news)
    : store_(store), on_news_(std::move(on_news)) {}

absl::StatusOr<std::unique_ptr<StepSpool>> StepSpool::Open(base::KvStore* store,
                                                           std::function<void()> on_news) {
  std::unique_ptr<StepSpool> spool(new StepSpool(store, std::move(on_news)));
  base::MutexLock lock(&spool->mutex_);
  if (absl::Status status = spool->LoadLocked(); !status.ok()) return status;
  return spool;
}

absl::StatusOr<int64_t> StepSpool::Salvage(base::KvWreck* wreck) {
  const base::KeyBuilder table(kTable);
  base::MutexLock lock(&mutex_);
  const auto copied = wreck->Copy(table.key(), table.PrefixEnd(), store_);
  if (!copied.ok()) return copied;
  jobs_.clear();
  if (absl::Status status = LoadLocked(); !status.ok()) return status;
  return copied;
}

absl::Status StepSpool::LoadLocked() {
  const base::KeyBuilder table(kTable);
  return store_->Scan(table.key(), table.PrefixEnd(),
                      [&](std::string_view row, std::string_view value) {
                        std::string job_id;
                        int64_t attempt = 0;
                        int64_t step = 0;
                        if (!ReadRow(row, &job_id, &attempt, &step)) return true;
                        Job& job = jobs_[job_id];
                        if (job.from.empty()) job.from = std::string(row);
                        ++job.size.records;
                        job.size.bytes += static_cast<int64_t>(row.size() + value.size());
                        return true;
                      });
}

absl::Status StepSpool::Append(const std::string& job_id, const std::vector<v1::StepRecord>& steps,
                               const v1::AttemptStart* start) {
  if (steps.empty() && start == nullptr) return absl::OkStatus();
  std::map<std::string, std::string> rows;
  bool valid = IsJobId(job_id);
  if (valid && start != nullptr) {
    valid = IsKeyNumber(start->attempt());
    if (valid) rows[Row(job_id, start->attempt(), 0)] = start->SerializeAsString();
  }
  for (const v1::StepRecord& step : steps) {
    valid = valid && IsKeyNumber(step.attempt()) && step.step() >= 1;
    if (valid) rows[Row(job_id, step.attempt(), step.step())] = step.SerializeAsString();
  }
  if (!valid) {
    return absl::InvalidArgumentError("step records of job \"" + job_id +
                                      "\" with an impossible job, attempt or step");
  }
  {
    base::MutexLock lock(&mutex_);
    base::KvBatch batch;
    SpoolSize added;
    for (const auto& [row, value] : rows) {
      // A record that is here already was counted; a trainer repeats itself after a lost answer.
      if (!store_->Get(row).ok()) {
        ++added.records;
        added.bytes += static_cast<int64_t>(row.size() + value.size());
      }
      batch.Put(row, value);
    }
    const absl::Status written = store_->Write(batch, base::Durability::kLogged);
    if (!written.ok()) return written;
    Job& job = jobs_[job_id];
    job.size.records += added.records;
    job.size.bytes += added.bytes;
    const std::string& first = rows.begin()->first;
    if (job.from.empty() || first < job.from) job.from = first;
  }
  on_news_();
  return absl::OkStatus();
}

std::vector<std::string> StepSpool::Jobs() const {
  base::MutexLock lock(&mutex_);
  std::vector<std::string> jobs;
  for (const auto& [job_id, job] : jobs_) jobs.push_back(job_id);
  return jobs;
}

absl::StatusOr<v1::ReportStepsRequest> StepSpool::Next(const std::string& job_id) {
  v1::ReportStepsRequest request;
  request.set_job_id(job_id);
  base::MutexLock lock(&mutex_);
  const auto found = jobs_.find(job_id);
  if (found == jobs_.end()) return request;
  Job& job = found->second;
  job.read_from = job.from;
  int64_t bytes = 0;
  int64_t first_attempt = -1;
  bool readable = true;
  const std::string end = base::KeyBuilder(kTable).Text(job_id).PrefixEnd();
  const absl::Status scanned =
      store_->Scan(job.from, end, [&](std::string_view row, std::string_view value) {
        std::string id;
        int64_t attempt = 0;
        int64_t step = 0;
        readable = ReadRow(row, &id, &attempt, &step);
        if (first_attempt < 0) first_attempt = attempt;
        if (!readable || attempt != first_attempt) return false;
        const auto size = static_cast<int>(value.size());
        readable = step == 0 ? request.add_starts()->ParseFromArray(value.data(), size)
                             : request.add_steps()->ParseFromArray(value.data(), size);
        bytes += size;
        return readable && request.steps_size() < kRecordsMax && bytes < kBytesMax;
      });
  if (!scanned.ok()) return scanned;
  if (!readable) {
    return absl::DataLossError("the spool's step records of job " + job_id + " cannot be read");
  }
  return request;
}

absl::Status StepSpool::Acknowledge(const v1::ReportStepsRequest& request) {
  std::set<std::string> rows;
  for (const v1::AttemptStart& start : request.starts()) {
    rows.insert(Row(request.job_id(), start.attempt(), 0));
  }
  for (const v1::StepRecord& step : request.steps()) {
    rows.insert(Row(request.job_id(), step.attempt(), step.step()));
  }
  base::MutexLock lock(&mutex_);
  const auto found = jobs_.find(request.job_id());
  if (rows.empty() || found == jobs_.end()) return absl::OkStatus();
  base::KvBatch batch;
  SpoolSize removed;
  for (const std::string& row : rows) {
    const auto value = store_->Get(row);
    if (!value.ok()) continue;
    ++removed.records;
    removed.bytes += static_cast<int64_t>(row.size() + value->size());
    batch.Delete(row);
  }
  // Should it come back after a crash, it is sent again, and the coordinator knows it.
  const absl::Status deleted = store_->Write(batch, base::Durability::kLogged);
  if (!deleted.ok()) return deleted;
  Job& job = found->second;
  job.size.records -= removed.records;
  job.size.bytes -= removed.bytes;
  // An append since Next may have moved it back; then the next scan starts there.
  if (job.from == job.read_from) job.from = *rows.rbegin() + '\0';
  if (job.size.records == 0) jobs_.erase(found);
  return absl::OkStatus();
}

SpoolSize StepSpool::size() const {
  base::MutexLock lock(&mutex_);
  SpoolSize size;
  for (const auto& [job_id, job] : jobs_) {
    size.records += job.size.records;
    size.bytes += job.size.bytes;
  }
  return size;
}

}  // namespace sinkforge::worker
