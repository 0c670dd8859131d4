// Step records and attempt starts in a database; see kv_history_store.h.
#include "server/store/kv_history_store.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/engine/rewind_rule.h"

namespace sinkforge::server {
namespace {

using base::KeyBuilder;
using base::KeyReader;

constexpr int kSchemaVersion = 1;

KeyBuilder StepsOf(const std::string& job_id) { return KeyBuilder("step").Text(job_id); }
KeyBuilder StartsOf(const std::string& job_id) { return KeyBuilder("start").Text(job_id); }

// Where the records of steps above `step` begin.
std::string KeyAfterStep(const std::string& job_id, int64_t step) {
  if (step == std::numeric_limits<int64_t>::max()) return StepsOf(job_id).PrefixEnd();
  return StepsOf(job_id).Number(std::max<int64_t>(step + 1, 0)).key();
}

struct StepKey {
  int64_t step = 0;
  int64_t attempt = 0;
};

StepKey ParseStepKey(std::string_view key) {
  KeyReader reader(key);
  std::string text;
  StepKey result;
  if (!reader.Text(&text) || !reader.Text(&text) || !reader.Number(&result.step) ||
      !reader.Number(&result.attempt)) {
    return StepKey();
  }
  return result;
}

// Collects the puts of one group of reports and skips what is known.
class Appender {
 public:
  Appender(const base::KvStore& kv, const JobUsage& usage) : kv_(kv), usage_(usage) {}

  absl::Status Add(const std::string& job_id, std::string key, std::string value) {
    if (keys_.count(key) > 0) return absl::OkStatus();
    const absl::Status known = kv_.Get(key).status();
    if (known.ok()) return absl::OkStatus();
    if (!absl::IsNotFound(known)) return known;
    keys_.insert(key);
    const auto [entry, added] = changed_.try_emplace(job_id);
    if (added) entry->second = usage_.Of(job_id);
    entry->second.bytes += static_cast<int64_t>(key.size() + value.size());
    batch_.Put(std::move(key), std::move(value));
    return absl::OkStatus();
  }

  base::KvBatch& batch() { return batch_; }
  const std::map<std::string, JobUsage::Entry>& changed() const { return changed_; }

 private:
  const base::KvStore& kv_;
  const JobUsage& usage_;
  base::KvBatch batch_;
  std::set<std::string> keys_;
  std::map<std::string, JobUsage::Entry> changed_;
};

absl::Status AddReport(const v1::ReportStepsRequest& report, Appender* appender) {
  for (const v1::AttemptStart& start : report.starts()) {
    const absl::Status added =
        appender->Add(report.job_id(), StartsOf(report.job_id()).Number(start.attempt()).key(),
                      start.SerializeAsString());
    if (!added.ok()) return added;
  }
  for (const v1::StepRecord& record : report.steps()) {
    const absl::Status added =
        appender->Add(report.job_id(),
                      StepsOf(report.job_id()).Number(record.step()).Number(record.attempt()).key(),
                      record.SerializeAsString());
    if (!added.ok()) return added;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvHistoryStore>> KvHistoryStore::Open(const std::string& path) {
  base::KvOptions options;
  options.path = path;
  options.schema_version = kSchemaVersion;
  auto kv = base::KvStore::Open(options);
  if (!kv.ok()) return kv.status();
  std::unique_ptr<KvHistoryStore> store(new KvHistoryStore(*std::move(kv)));
  base::MutexLock lock(&store->mutex_);
  const absl::Status loaded = store->usage_.Load(*store->kv_);
  if (!loaded.ok()) return loaded;
  return store;
}

absl::Status KvHistoryStore::Append(const std::vector<v1::ReportStepsRequest>& group) {
  base::MutexLock lock(&mutex_);
  Appender appender(*kv_, usage_);
  for (const v1::ReportStepsRequest& report : group) {
    const absl::Status added = AddReport(report, &appender);
    if (!added.ok()) return added;
  }
  JobUsage::Put(appender.changed(), &appender.batch());
  const absl::Status written = kv_->Write(appender.batch(), base::Durability::kSynced);
  if (written.ok()) usage_.Apply(appender.changed());
  return written;
}

absl::Status KvHistoryStore::Read(const StepRange& range,
                                  const std::function<bool(const v1::StepRecord&)>& visit) const {
  const auto starts = Starts(range.job_id);
  if (!starts.ok()) return starts.status();
  const RewindRule rule(*starts);
  StepKey pending;  // the step's last attempt so far that counts; step 0: none
  std::string pending_value;
  bool readable = true;
  const auto emit = [&] {
    if (pending_value.empty()) return true;
    v1::StepRecord record;
    readable = record.ParseFromString(pending_value);
    pending_value.clear();
    return readable && visit(record);
  };
  bool go_on = true;
  const absl::Status scanned = kv_->Scan(
      KeyAfterStep(range.job_id, range.first_step - 1), KeyAfterStep(range.job_id, range.last_step),
      [&](std::string_view key, std::string_view value) {
        const StepKey found = ParseStepKey(key);
        if (found.step != pending.step && !emit()) return go_on = false;
        const bool wanted = range.attempt.has_value() ? found.attempt == *range.attempt
                                                      : rule.Counts(found.attempt, found.step);
        if (wanted) {
          pending = found;
          pending_value.assign(value);
        }
        return true;
      });
  if (!scanned.ok()) return scanned;
  if (go_on) emit();
  if (readable) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("job ", range.job_id, ": the record of step ",
                                          pending.step, ", attempt ", pending.attempt,
                                          " cannot be read"));
}

absl::StatusOr<StepExtent> KvHistoryStore::Extent(const StepRange& range) const {
  const auto starts = Starts(range.job_id);
  if (!starts.ok()) return starts.status();
  const RewindRule rule(*starts);
  int64_t found_step = 0;
  const auto find = [&](std::string_view key, std::string_view) {
    const StepKey found = ParseStepKey(key);
    const bool wanted = range.attempt.has_value() ? found.attempt == *range.attempt
                                                  : rule.Counts(found.attempt, found.step);
    if (wanted) found_step = found.step;
    return !wanted;
  };
  const std::string begin = KeyAfterStep(range.job_id, range.first_step - 1);
  const std::string end = KeyAfterStep(range.job_id, range.last_step);
  StepExtent extent;
  absl::Status scanned = kv_->Scan(begin, end, find);
  if (!scanned.ok()) return scanned;
  extent.first = found_step;
  scanned = kv_->ScanBackwards(begin, end, find);
  if (!scanned.ok()) return scanned;
  extent.last = found_step;
  return extent;
}

absl::StatusOr<std::vector<v1::AttemptStart>> KvHistoryStore::Starts(
    const std::string& job_id) const {
  std::vector<v1::AttemptStart> starts;
  bool readable = true;
  const absl::Status scanned =
      kv_->Scan(StartsOf(job_id).key(), StartsOf(job_id).PrefixEnd(),
                [&](std::string_view, std::string_view value) {
                  v1::AttemptStart start;
                  readable = start.ParseFromArray(value.data(), static_cast<int>(value.size()));
                  starts.push_back(start);
                  return readable;
                });
  if (!scanned.ok()) return scanned;
  if (!readable) {
    return absl::DataLossError(
        absl::StrCat("job ", job_id, ": the start of an attempt cannot be read"));
  }
  return starts;
}

std::vector<JobBytes> KvHistoryStore::Bytes() const {
  base::MutexLock lock(&mutex_);
  return usage_.Bytes();
}

absl::Status KvHistoryStore::Trim(const std::string& job_id, int64_t bytes) {
  base::MutexLock lock(&mutex_);
  int64_t freed = 0;
  std::string end;
  const absl::Status scanned = kv_->Scan(StepsOf(job_id).key(), StepsOf(job_id).PrefixEnd(),
                                         [&](std::string_view key, std::string_view value) {
                                           end = std::string(key) + '\0';
                                           freed += static_cast<int64_t>(key.size() + value.size());
                                           return freed < bytes;
                                         });
  if (!scanned.ok()) return scanned;
  if (freed == 0) return absl::OkStatus();
  JobUsage::Entry entry = usage_.Of(job_id);
  entry.bytes -= freed;
  base::KvBatch batch;
  batch.DeleteRange(StepsOf(job_id).key(), end);
  JobUsage::Put({{job_id, entry}}, &batch);
  const absl::Status written = kv_->Write(batch, base::Durability::kLogged);
  if (written.ok()) usage_.Apply({{job_id, entry}});
  return written;
}

absl::Status KvHistoryStore::DeleteJob(const std::string& job_id) {
  base::MutexLock lock(&mutex_);
  base::KvBatch batch;
  batch.DeleteRange(StepsOf(job_id).key(), StepsOf(job_id).PrefixEnd());
  batch.DeleteRange(StartsOf(job_id).key(), StartsOf(job_id).PrefixEnd());
  JobUsage::Delete(job_id, &batch);
  const absl::Status written = kv_->Write(batch, base::Durability::kLogged);
  if (written.ok()) usage_.Forget(job_id);
  return written;
}

}  // namespace sinkforge::server
