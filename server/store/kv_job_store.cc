// Jobs, events and counters in a database; see kv_job_store.h.
#include "server/store/kv_job_store.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/ids.h"

namespace sinkforge::server {
namespace {

using base::KeyBuilder;
using base::KeyReader;

constexpr int kSchemaVersion = 1;

KeyBuilder JobTable() { return KeyBuilder("job"); }
KeyBuilder EventTable() { return KeyBuilder("event"); }
KeyBuilder EventsOf(const std::string& job_id) { return EventTable().Text(job_id); }
std::string EventKey(const std::string& job_id, int64_t sequence) {
  return EventsOf(job_id).Number(sequence).key();
}
KeyBuilder NamespaceTable() { return KeyBuilder("namespace"); }
KeyBuilder DrainTable() { return KeyBuilder("drain"); }
std::string CounterKey() { return KeyBuilder("counter").Text("next_job_number").key(); }

int64_t SizeOf(std::string_view key, std::string_view value) {
  return static_cast<int64_t>(key.size() + value.size());
}

// Every key begins with the table's name, and a name.
std::string NameOfKey(std::string_view key) {
  KeyReader reader(key);
  std::string table;
  std::string job_id;
  if (!reader.Text(&table) || !reader.Text(&job_id)) return "";
  return job_id;
}

// Every message of a table whose keys are names.
template <typename Message>
absl::Status ReadTable(const base::KvStore& kv, const KeyBuilder& table, const char* what,
                       std::vector<Message>* messages) {
  std::string unreadable;
  const absl::Status scanned =
      kv.Scan(table.key(), table.PrefixEnd(), [&](std::string_view key, std::string_view value) {
        Message& message = messages->emplace_back();
        if (message.ParseFromArray(value.data(), static_cast<int>(value.size()))) return true;
        unreadable = NameOfKey(key);
        return false;
      });
  if (!scanned.ok() || unreadable.empty()) return scanned;
  return absl::DataLossError(absl::StrCat(what, " ", unreadable, ": its record cannot be read; ",
                                          "restore the data directory from a backup"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvJobStore>> KvJobStore::Open(const std::string& path) {
  base::KvOptions options;
  options.path = path;
  options.schema_version = kSchemaVersion;
  auto kv = base::KvStore::Open(options);
  if (!kv.ok()) return kv.status();
  std::unique_ptr<KvJobStore> store(new KvJobStore(*std::move(kv)));
  absl::Status read = store->CountEventBytes();
  if (read.ok()) read = store->ReadClusterId();
  if (!read.ok()) return read;
  return store;
}

absl::Status KvJobStore::ReadClusterId() {
  const std::string key = KeyBuilder("cluster").Text("id").key();
  absl::StatusOr<std::string> known = kv_->Get(key);
  if (known.ok()) cluster_id_ = *std::move(known);
  if (!absl::IsNotFound(known.status())) return known.status();
  cluster_id_ = base::RandomId();
  base::KvBatch batch;
  batch.Put(key, cluster_id_);
  return kv_->Write(batch, base::Durability::kSynced);
}

absl::Status KvJobStore::CountEventBytes() {
  base::MutexLock lock(&mutex_);
  return kv_->Scan(EventTable().key(), EventTable().PrefixEnd(),
                   [this](std::string_view key, std::string_view value) {
                     event_bytes_[NameOfKey(key)] += SizeOf(key, value);
                     return true;
                   });
}

absl::StatusOr<StoredJobs> KvJobStore::Load() const {
  StoredJobs stored;
  absl::Status read = ReadTable(*kv_, JobTable(), "job", &stored.jobs);
  if (read.ok()) read = ReadTable(*kv_, NamespaceTable(), "namespace", &stored.namespaces);
  if (read.ok()) read = ReadTable(*kv_, DrainTable(), "drained worker", &stored.drains);
  if (!read.ok()) return read;
  const auto counter = kv_->Get(CounterKey());
  if (absl::IsNotFound(counter.status())) return stored;
  if (!counter.ok()) return counter.status();
  if (!absl::SimpleAtoi(*counter, &stored.next_job_number)) {
    return absl::DataLossError("the job counter cannot be read; restore the data directory");
  }
  return stored;
}

absl::Status KvJobStore::CheckWritable() {
  base::KvBatch batch;
  batch.Put(KeyBuilder("probe").key(), "");
  return kv_->Write(batch, base::Durability::kLogged);
}

absl::Status KvJobStore::Write(const Effects& effects) {
  base::KvBatch batch;
  for (const v1::Job& job : effects.jobs) {
    batch.Put(JobTable().Text(job.job_id()).key(), job.SerializeAsString());
  }
  std::map<std::string, int64_t> added;
  for (const v1::Event& event : effects.events) {
    std::string key = EventKey(event.job_id(), event.sequence());
    std::string value = event.SerializeAsString();
    added[event.job_id()] += SizeOf(key, value);
    batch.Put(std::move(key), std::move(value));
  }
  for (const std::string& job_id : effects.deleted_jobs) {
    batch.Delete(JobTable().Text(job_id).key());
    batch.DeleteRange(EventsOf(job_id).key(), EventsOf(job_id).PrefixEnd());
  }
  for (const v1::Namespace& settings : effects.namespaces) {
    batch.Put(NamespaceTable().Text(settings.namespace_()).key(), settings.SerializeAsString());
  }
  for (const auto& [worker, drain] : effects.drains) {
    const std::string key = DrainTable().Text(worker).key();
    if (drain.has_value()) {
      batch.Put(key, drain->SerializeAsString());
    } else {
      batch.Delete(key);
    }
  }
  if (effects.next_job_number.has_value()) {
    batch.Put(CounterKey(), absl::StrCat(*effects.next_job_number));
  }
  base::MutexLock lock(&mutex_);
  const absl::Status written = kv_->Write(batch, base::Durability::kSynced);
  if (!written.ok()) return written;
  for (const auto& [job_id, bytes] : added) event_bytes_[job_id] += bytes;
  for (const std::string& job_id : effects.deleted_jobs) event_bytes_.erase(job_id);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::Event>> KvJobStore::ListEvents(const std::string& job_id,
                                                              int64_t after_sequence,
                                                              int limit) const {
  std::vector<v1::Event> events;
  bool readable = true;
  const auto visit = [&](std::string_view, std::string_view value) {
    if (static_cast<int>(events.size()) >= limit) return false;
    v1::Event event;
    readable = event.ParseFromArray(value.data(), static_cast<int>(value.size()));
    if (readable) events.push_back(std::move(event));
    return readable;
  };
  const absl::Status scanned =
      kv_->Scan(EventKey(job_id, after_sequence + 1), EventsOf(job_id).PrefixEnd(), visit);
  if (!scanned.ok()) return scanned;
  if (!readable) {
    return absl::DataLossError(
        absl::StrCat("job ", job_id, ": an event after ", after_sequence, " cannot be read"));
  }
  return events;
}

std::vector<JobBytes> KvJobStore::EventBytes() const {
  base::MutexLock lock(&mutex_);
  std::vector<JobBytes> all;
  for (const auto& [job_id, bytes] : event_bytes_) {
    if (bytes > 0) all.push_back({job_id, bytes});
  }
  return all;
}

absl::Status KvJobStore::TrimEvents(const std::string& job_id, int64_t bytes) {
  base::MutexLock lock(&mutex_);
  int64_t freed = 0;
  std::string end;
  const absl::Status scanned = kv_->Scan(EventsOf(job_id).key(), EventsOf(job_id).PrefixEnd(),
                                         [&](std::string_view key, std::string_view value) {
                                           end = std::string(key) + '\0';
                                           freed += SizeOf(key, value);
                                           return freed < bytes;
                                         });
  if (!scanned.ok()) return scanned;
  if (freed == 0) return absl::OkStatus();
  base::KvBatch batch;
  batch.DeleteRange(EventsOf(job_id).key(), end);
  const absl::Status written = kv_->Write(batch, base::Durability::kLogged);
  if (written.ok()) event_bytes_[job_id] -= freed;
  return written;
}

}  // namespace sinkforge::server
