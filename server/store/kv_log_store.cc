// Log lines in a database; see kv_log_store.h.
#include "server/store/kv_log_store.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sinkforge::server {
namespace {

using base::KeyBuilder;
using base::KeyReader;

constexpr int kSchemaVersion = 1;

KeyBuilder LinesOf(const std::string& job_id) { return KeyBuilder("line").Text(job_id); }
KeyBuilder SeenOf(const std::string& job_id) { return KeyBuilder("seen").Text(job_id); }
std::string SeenKey(const std::string& job_id, const v1::LogLine& line) {
  return SeenOf(job_id).Number(line.attempt()).Number(line.rank()).Number(line.sequence()).key();
}

// Of a line and the mark that it was seen.
int64_t SizeOf(const std::string& job_id, const v1::LogLine& line, size_t value_bytes) {
  const size_t line_key_bytes = LinesOf(job_id).Number(0).key().size();
  return static_cast<int64_t>(line_key_bytes + value_bytes + SeenKey(job_id, line).size());
}

int64_t NumberOfKey(std::string_view key) {
  KeyReader reader(key);
  std::string text;
  int64_t number = 0;
  return reader.Text(&text) && reader.Text(&text) && reader.Number(&number) ? number : 0;
}

bool Selected(const LogSelection& selection, const v1::LogLine& line) {
  return (!selection.attempt.has_value() || line.attempt() == *selection.attempt) &&
         (!selection.rank.has_value() || line.rank() == *selection.rank);
}

absl::Status Unreadable(const std::string& job_id, int64_t number) {
  return absl::DataLossError(absl::StrCat("job ", job_id, ": log line ", number,
                                          " cannot be read; delete the job's logs with it"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvLogStore>> KvLogStore::Open(const std::string& path) {
  base::KvOptions options;
  options.path = path;
  options.schema_version = kSchemaVersion;
  auto kv = base::KvStore::Open(options);
  if (!kv.ok()) return kv.status();
  std::unique_ptr<KvLogStore> store(new KvLogStore(*std::move(kv)));
  base::MutexLock lock(&store->mutex_);
  const absl::Status loaded = store->usage_.Load(*store->kv_);
  if (!loaded.ok()) return loaded;
  return store;
}

absl::Status KvLogStore::Append(const std::vector<v1::AppendLogsRequest>& group) {
  base::MutexLock lock(&mutex_);
  base::KvBatch batch;
  std::set<std::string> added;
  std::map<std::string, JobUsage::Entry> changed;
  for (const v1::AppendLogsRequest& request : group) {
    for (const v1::LogLine& line : request.lines()) {
      std::string seen_key = SeenKey(request.job_id(), line);
      if (added.count(seen_key) > 0) continue;
      const absl::Status known = kv_->Get(seen_key).status();
      if (known.ok()) continue;
      if (!absl::IsNotFound(known)) return known;
      const auto [entry, is_first] = changed.try_emplace(request.job_id());
      if (is_first) entry->second = usage_.Of(request.job_id());
      std::string value = line.SerializeAsString();
      entry->second.bytes += SizeOf(request.job_id(), line, value.size());
      batch.Put(LinesOf(request.job_id()).Number(entry->second.next_number++).key(),
                std::move(value));
      added.insert(seen_key);
      batch.Put(std::move(seen_key), "");
    }
  }
  JobUsage::Put(changed, &batch);
  const absl::Status written = kv_->Write(batch, base::Durability::kSynced);
  if (written.ok()) usage_.Apply(changed);
  return written;
}

absl::Status KvLogStore::Read(
    const LogSelection& selection, int64_t after,
    const std::function<bool(int64_t number, const v1::LogLine& line)>& visit) const {
  int64_t unreadable = 0;
  const absl::Status scanned = kv_->Scan(
      LinesOf(selection.job_id).Number(after + 1).key(), LinesOf(selection.job_id).PrefixEnd(),
      [&](std::string_view key, std::string_view value) {
        v1::LogLine line;
        if (!line.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
          unreadable = NumberOfKey(key);
          return false;
        }
        return !Selected(selection, line) || visit(NumberOfKey(key), line);
      });
  if (!scanned.ok()) return scanned;
  return unreadable == 0 ? absl::OkStatus() : Unreadable(selection.job_id, unreadable);
}

absl::StatusOr<int64_t> KvLogStore::TailStart(const LogSelection& selection, int64_t lines) const {
  int64_t left = lines;
  int64_t start = 0;
  int64_t unreadable = 0;
  const absl::Status scanned =
      kv_->ScanBackwards(LinesOf(selection.job_id).key(), LinesOf(selection.job_id).PrefixEnd(),
                         [&](std::string_view key, std::string_view value) {
                           v1::LogLine line;
                           if (!line.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
                             unreadable = NumberOfKey(key);
                             return false;
                           }
                           if (!Selected(selection, line)) return true;
                           if (left == 0) {
                             start = NumberOfKey(key);
                             return false;
                           }
                           --left;
                           return true;
                         });
  if (!scanned.ok()) return scanned;
  if (unreadable != 0) return Unreadable(selection.job_id, unreadable);
  return start;
}

std::vector<JobBytes> KvLogStore::Bytes() const {
  base::MutexLock lock(&mutex_);
  return usage_.Bytes();
}

absl::Status KvLogStore::Trim(const std::string& job_id, int64_t bytes) {
  base::MutexLock lock(&mutex_);
  base::KvBatch batch;
  int64_t freed = 0;
  int64_t unreadable = 0;
  std::string end;
  const absl::Status scanned =
      kv_->Scan(LinesOf(job_id).key(), LinesOf(job_id).PrefixEnd(),
                [&](std::string_view key, std::string_view value) {
                  v1::LogLine line;
                  if (!line.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
                    unreadable = NumberOfKey(key);
                    return false;
                  }
                  end = std::string(key) + '\0';
                  freed += SizeOf(job_id, line, value.size());
                  batch.Delete(SeenKey(job_id, line));
                  return freed < bytes;
                });
  if (!scanned.ok()) return scanned;
  if (unreadable != 0) return Unreadable(job_id, unreadable);
  if (freed == 0) return absl::OkStatus();
  JobUsage::Entry entry = usage_.Of(job_id);
  entry.bytes -= freed;
  batch.DeleteRange(LinesOf(job_id).key(), end);
  JobUsage::Put({{job_id, entry}}, &batch);
  const absl::Status written = kv_->Write(batch, base::Durability::kLogged);
  if (written.ok()) usage_.Apply({{job_id, entry}});
  return written;
}

absl::Status KvLogStore::DeleteJob(const std::string& job_id) {
  base::MutexLock lock(&mutex_);
  base::KvBatch batch;
  batch.DeleteRange(LinesOf(job_id).key(), LinesOf(job_id).PrefixEnd());
  batch.DeleteRange(SeenOf(job_id).key(), SeenOf(job_id).PrefixEnd());
  JobUsage::Delete(job_id, &batch);
  const absl::Status written = kv_->Write(batch, base::Durability::kLogged);
  if (written.ok()) usage_.Forget(job_id);
  return written;
}

}  // namespace sinkforge::server
