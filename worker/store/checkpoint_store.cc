// Checkpoint parts in the key-value store. Tables:
//   checkpoint_part  job attempt step rank             -> CheckpointPart (the manifest)
//   checkpoint_data  job attempt step rank slice row   -> CheckpointData; row 0 is the slice, row
//                    n + 1 its chunk n; the trailer is row 0 of slice 2^62
#include "worker/store/checkpoint_store.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/files.h"
#include "base/log.h"

namespace sinkforge::worker {
namespace {

constexpr char kPartTable[] = "checkpoint_part";
constexpr char kDataTable[] = "checkpoint_data";
constexpr int64_t kTrailerSlice = int64_t{1} << 62;
constexpr int64_t kSpaceCheckBytes = 16 << 20;  // a statvfs is cheap beside this much data

base::KeyBuilder Row(const char* table, const PartKey& key) {
  base::KeyBuilder builder(table);
  builder.Text(key.job_id).Number(key.attempt).Number(key.step).Number(key.rank);
  return builder;
}

std::string DataRow(const PartKey& key, int64_t slice, int64_t row) {
  return Row(kDataTable, key).Number(slice).Number(row).key();
}

bool ReadPartKey(std::string_view row, PartKey* key) {
  base::KeyReader reader(row);
  std::string table;
  int64_t rank = 0;
  const bool ok = reader.Text(&table) && reader.Text(&key->job_id) &&
                  reader.Number(&key->attempt) && reader.Number(&key->step) && reader.Number(&rank);
  key->rank = static_cast<int32_t>(rank);
  return ok;
}

bool Matches(const std::string& name, const std::vector<std::string>& prefixes) {
  return prefixes.empty() || std::any_of(prefixes.begin(), prefixes.end(), [&](const auto& prefix) {
           return name.compare(0, prefix.size(), prefix) == 0;
         });
}

// Leaves out the tensors that were not asked for and numbers the others anew.
class Selection {
 public:
  explicit Selection(const std::vector<std::string>& prefixes) : prefixes_(prefixes) {}

  // Whether the message is sent; changes it where it must.
  bool Select(v1::CheckpointData* data) {
    if (prefixes_.empty()) return true;
    switch (data->kind_case()) {
      case v1::CheckpointData::kSlice:
        wanted_ = Matches(data->slice().name(), prefixes_);
        if (wanted_) data->mutable_slice()->set_index(index_++);
        return wanted_;
      case v1::CheckpointData::kChunk:
        if (!wanted_) return false;
        data->mutable_chunk()->set_slice(index_ - 1);
        bytes_ += static_cast<int64_t>(data->chunk().data().size());
        return true;
      default:
        data->mutable_trailer()->set_bytes(bytes_);
        return true;
    }
  }

 private:
  const std::vector<std::string>& prefixes_;
  bool wanted_ = false;
  int32_t index_ = 0;
  int64_t bytes_ = 0;
};

}  // namespace

bool IsPossible(const PartKey& key) {
  return IsJobId(key.job_id) && IsKeyNumber(key.attempt) && IsKeyNumber(key.step) &&
         IsKeyNumber(key.rank);
}

PartKey KeyOf(const v1::CheckpointPart& part) {
  return {part.job_id(), part.attempt(), part.step(), part.rank()};
}

absl::Status OfPart(const PartKey& key, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      "checkpoint of " + ToString(key) + ": " + std::string(status.message()));
}

CheckpointStore::CheckpointStore(base::KvStore* store, CheckpointStoreOptions options)
    : store_(store), options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<CheckpointStore>> CheckpointStore::Open(
    base::KvStore* store, CheckpointStoreOptions options) {
  std::unique_ptr<CheckpointStore> opened(new CheckpointStore(store, std::move(options)));
  // What was on its way in when a former life ended.
  std::error_code error;
  std::filesystem::remove_all(opened->IncomingFolder(), error);
  if (absl::Status made = base::MakeFolder(opened->IncomingFolder()); !made.ok()) return made;
  if (absl::Status status = opened->Load(); !status.ok()) return status;
  if (absl::Status status = opened->RemoveHalfWritten(); !status.ok()) return status;
  return opened;
}

absl::Status CheckpointStore::Load() {
  base::MutexLock lock(&mutex_);
  const base::KeyBuilder table(kPartTable);
  bool readable = true;
  const absl::Status status =
      store_->Scan(table.key(), table.PrefixEnd(), [&](std::string_view, std::string_view value) {
        v1::CheckpointPart part;
        readable = readable && part.ParseFromArray(value.data(), static_cast<int>(value.size()));
        if (readable) parts_[KeyOf(part)] = part;
        return readable;
      });
  if (status.ok() && !readable) {
    return absl::DataLossError("database " + options_.path +
                               ": a checkpoint's manifest cannot be read; move that folder away to "
                               "start with an empty one");
  }
  return status;
}

absl::Status CheckpointStore::RemoveHalfWritten() {
  const base::KeyBuilder table(kDataTable);
  std::string from = table.key();
  for (;;) {
    PartKey key;
    bool found = false;
    // Only the first row of each part is looked at; the next scan starts behind the part.
    const absl::Status status =
        store_->Scan(from, table.PrefixEnd(), [&](std::string_view row, std::string_view) {
          found = ReadPartKey(row, &key);
          return false;
        });
    if (!status.ok()) return status;
    if (!found) return absl::OkStatus();
    if (!Find(key).ok()) {
      base::LogInfo("a half-written checkpoint part is removed", {{"part", ToString(key)}});
      RemoveRows(key);
    }
    from = Row(kDataTable, key).PrefixEnd();
  }
}

absl::Status CheckpointStore::CheckSpace() const {
  const auto free = options_.disk_free_bytes();
  if (!free.ok()) return free.status();
  if (*free > options_.reserve_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      "disk full: " + options_.path + " has " + std::to_string(*free) + " bytes free, and " +
      std::to_string(options_.reserve_bytes) +
      " stay in reserve; delete checkpoints (`sinkforge checkpoints delete`) or other files there, "
      "or lower the worker's --disk-reserve");
}

absl::StatusOr<std::unique_ptr<PartWriter>> CheckpointStore::Begin(const v1::CheckpointPart& part) {
  const PartKey key = KeyOf(part);
  if (!IsPossible(key)) {
    return absl::InvalidArgumentError("checkpoint part with an impossible name or number");
  }
  RetryRemovals();
  if (absl::Status space = CheckSpace(); !space.ok()) return space;
  {
    base::MutexLock lock(&mutex_);
    if (parts_.count(key) > 0 || removals_.count(key) > 0 ||
        !writing_.emplace(key, Writing::kOpen).second) {
      return absl::AlreadyExistsError("checkpoint of " + ToString(key) +
                                      ": is here, or is being written or removed");
    }
  }
  return MakeWriter(part);
}

absl::StatusOr<std::unique_ptr<PartWriter>> CheckpointStore::MakeWriter(
    const v1::CheckpointPart& part) {
  int64_t number = 0;
  {
    base::MutexLock lock(&mutex_);
    number = ++files_;
  }
  auto file = base::KvFile::Create(IncomingFolder() + "/" + std::to_string(number));
  if (!file.ok()) {
    Close(KeyOf(part));
    return file.status();
  }
  return std::unique_ptr<PartWriter>(new PartWriter(this, part, *std::move(file)));
}

absl::StatusOr<v1::CheckpointPart> CheckpointStore::Find(const PartKey& key) const {
  base::MutexLock lock(&mutex_);
  const auto found = parts_.find(key);
  if (found == parts_.end()) {
    return absl::NotFoundError("checkpoint of " + ToString(key) + ": not on worker " +
                               options_.worker);
  }
  return found->second;
}

absl::Status CheckpointStore::Read(
    const PartKey& key, const std::vector<std::string>& prefixes,
    const std::function<bool(const v1::CheckpointData&)>& visit) const {
  if (const auto found = Find(key); !found.ok()) return found.status();
  const bool may_be_missing = RowsMayBeMissing();
  checkpoint::PartVerifier verifier;
  int64_t chunks = 0;
  Selection selection(prefixes);
  absl::Status checked;
  bool stopped = false;
  v1::CheckpointData data;
  const base::KeyBuilder rows = Row(kDataTable, key);
  const absl::Status scanned =
      store_->Scan(rows.key(), rows.PrefixEnd(), [&](std::string_view, std::string_view value) {
        if (!data.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
          checked = absl::DataLossError("an unreadable record");
          return false;
        }
        checked = verifier.Accept(data);
        if (!checked.ok()) return false;
        chunks = data.has_chunk() ? chunks + 1 : 0;
        if (selection.Select(&data)) stopped = !visit(data);
        return !stopped;
      });
  if (!scanned.ok()) {
    return OfPart(
        key, absl::Status(scanned.code(), "cannot be read after chunk " + std::to_string(chunks) +
                                              " of tensor " + verifier.slice().name() + ": " +
                                              std::string(scanned.message())));
  }
  if (checked.ok() && !stopped) checked = verifier.Complete();
  if (!checked.ok() && may_be_missing) {
    return OfPart(key, absl::UnavailableError("is still to be salvaged from a damaged database of "
                                              "worker " +
                                              options_.worker));
  }
  return OfPart(key, checked);
}

absl::Status CheckpointStore::Commit(const v1::CheckpointPart& part) {
  const PartKey key = KeyOf(part);
  base::KvBatch manifest;
  manifest.Put(Row(kPartTable, key).key(), part.SerializeAsString());
  // The lock is held over the write, so that a drop comes wholly before or wholly after it.
  base::MutexLock lock(&mutex_);
  if (writing_.at(key) == Writing::kDropped) {
    return absl::AbortedError("checkpoint of " + ToString(key) +
                              ": was dropped while it was written");
  }
  const absl::Status written = store_->Write(manifest, base::Durability::kSynced);
  if (written.ok()) parts_[key] = part;
  return written;
}

void CheckpointStore::Close(const PartKey& key) {
  base::MutexLock lock(&mutex_);
  writing_.erase(key);
}

absl::Status CheckpointStore::DropPart(const PartKey& key) {
  {
    base::MutexLock lock(&mutex_);
    if (parts_.count(key) == 0) return absl::OkStatus();
    base::KvBatch batch;
    batch.Delete(Row(kPartTable, key).key());
    const absl::Status written = store_->Write(batch, base::Durability::kSynced);
    if (!written.ok()) return written;
    parts_.erase(key);
    removals_.insert(key);
  }
  RetryRemovals();
  return absl::OkStatus();
}

absl::Status CheckpointStore::Drop(const CheckpointKey& key, const std::string& job_uid) {
  RetryRemovals();
  std::vector<PartKey> dropped;
  {
    base::MutexLock lock(&mutex_);
    base::KvBatch batch;
    for (const auto& [part, content] : parts_) {
      if (part.checkpoint() != key) continue;
      if (!job_uid.empty() && content.job_uid() != job_uid) continue;
      dropped.push_back(part);
      batch.Delete(Row(kPartTable, part).key());
    }
    // Manifests first: should the rows outlive them, they are removed as half-written.
    const absl::Status written = store_->Write(batch, base::Durability::kSynced);
    if (!written.ok()) return written;
    for (const PartKey& part : dropped) {
      parts_.erase(part);
      removals_.insert(part);
    }
    for (auto& [part, state] : writing_) {
      if (part.checkpoint() == key && job_uid.empty()) state = Writing::kDropped;
    }
  }
  RetryRemovals();
  return absl::OkStatus();
}

void CheckpointStore::Adopt(base::KvWreck* wreck) {
  const base::KeyBuilder table(kPartTable);
  base::MutexLock lock(&mutex_);
  wreck->Scan(table.key(), table.PrefixEnd(), [&](std::string_view, std::string_view value) {
    v1::CheckpointPart part;
    const bool ok = part.ParseFromArray(value.data(), static_cast<int>(value.size()));
    if (ok && IsPossible(KeyOf(part))) parts_.emplace(KeyOf(part), part);
    return true;
  });
}

absl::StatusOr<int64_t> CheckpointStore::Salvage(base::KvWreck* wreck) {
  const std::string end = base::KeyBuilder(kDataTable).PrefixEnd();
  int64_t moved = 0;
  // In the order of the rows, so that what is behind can be released.
  for (const v1::CheckpointPart& part : Parts()) {
    const PartKey key = KeyOf(part);
    const auto present = store_->Get(Row(kPartTable, key).key());
    if (present.ok()) continue;  // written or salvaged since
    if (!absl::IsNotFound(present.status())) return present.status();
    const absl::Status salvaged = SalvagePart(part, wreck);
    if (absl::IsResourceExhausted(salvaged) || absl::IsUnavailable(salvaged)) return salvaged;
    if (salvaged.ok()) {
      ++moved;
    } else {
      base::LogWarning("a checkpoint part cannot be read from a damaged database",
                       {{"part", ToString(key)}, {"error", std::string(salvaged.message())}});
    }
    wreck->Release(Row(kDataTable, key).PrefixEnd(), end);
  }
  return moved;
}

absl::StatusOr<int64_t> CheckpointStore::DropMissing() {
  int64_t missing = 0;
  for (const v1::CheckpointPart& part : Parts()) {
    const PartKey key = KeyOf(part);
    const auto present = store_->Get(Row(kPartTable, key).key());
    if (present.ok()) continue;
    // Also where the answer came from a database that is newer than the salvage.
    if (!absl::IsNotFound(present.status()) || RowsMayBeMissing()) {
      return absl::UnavailableError("the database was damaged again");
    }
    base::LogError("a checkpoint part was in damaged files and is lost here",
                   {{"part", ToString(key)}});
    if (absl::Status dropped = DropPart(key); !dropped.ok()) return dropped;
    ++missing;
  }
  return missing;
}

absl::Status CheckpointStore::SalvagePart(const v1::CheckpointPart& part, base::KvWreck* wreck) {
  const PartKey key = KeyOf(part);
  {
    base::MutexLock lock(&mutex_);
    if (parts_.count(key) == 0 || !writing_.emplace(key, Writing::kOpen).second) {
      return absl::AbortedError("dropped, or written anew");
    }
  }
  const auto writer = MakeWriter(part);
  if (!writer.ok()) return writer.status();
  absl::Status added;
  v1::CheckpointData data;
  const base::KeyBuilder rows = Row(kDataTable, key);
  wreck->Scan(rows.key(), rows.PrefixEnd(), [&](std::string_view, std::string_view value) {
    const bool ok = data.ParseFromArray(value.data(), static_cast<int>(value.size()));
    added = ok ? (*writer)->Add(data) : absl::DataLossError("an unreadable record");
    return added.ok();
  });
  return added.ok() ? (*writer)->Commit().status() : added;
}

void CheckpointStore::RemoveRows(const PartKey& key) {
  {
    base::MutexLock lock(&mutex_);
    removals_.insert(key);
  }
  RetryRemovals();
}

void CheckpointStore::RetryRemovals() {
  // One at a time: a second remover with an older list could remove rows that are written anew.
  base::MutexLock removing(&removal_mutex_);
  std::set<PartKey> removals;
  {
    base::MutexLock lock(&mutex_);
    removals = removals_;
  }
  for (const PartKey& key : removals) {
    const base::KeyBuilder rows = Row(kDataTable, key);
    const absl::Status removed = store_->RemoveRange(rows.key(), rows.PrefixEnd());
    if (!removed.ok()) {
      base::LogWarning("a checkpoint part's rows could not be removed; tried again later",
                       {{"part", ToString(key)}, {"error", std::string(removed.message())}});
      continue;
    }
    base::MutexLock lock(&mutex_);
    removals_.erase(key);
  }
}

std::vector<v1::CheckpointPart> CheckpointStore::Parts() const {
  base::MutexLock lock(&mutex_);
  std::vector<v1::CheckpointPart> parts;
  for (const auto& [key, part] : parts_) parts.push_back(part);
  return parts;
}

std::set<CheckpointKey> CheckpointStore::Checkpoints() const {
  base::MutexLock lock(&mutex_);
  std::set<CheckpointKey> checkpoints;
  for (const auto& [key, part] : parts_) checkpoints.insert(key.checkpoint());
  // So that a drop also reaches what is still being written.
  for (const auto& [key, state] : writing_) {
    if (state == Writing::kOpen) checkpoints.insert(key.checkpoint());
  }
  return checkpoints;
}

int64_t CheckpointStore::bytes() const {
  base::MutexLock lock(&mutex_);
  int64_t bytes = 0;
  for (const auto& [key, part] : parts_) bytes += part.bytes();
  return bytes;
}

PartWriter::PartWriter(CheckpointStore* store, const v1::CheckpointPart& part,
                       std::unique_ptr<base::KvFile> file)
    : store_(store), part_(part), file_(std::move(file)) {}

PartWriter::~PartWriter() {
  if (ingested_ && !committed_) store_->RemoveRows(KeyOf(part_));
  store_->Close(KeyOf(part_));
}

absl::Status PartWriter::Add(const v1::CheckpointData& data) {
  if (absl::Status status = verifier_.Accept(data); !status.ok()) {
    return OfPart(KeyOf(part_), status);
  }
  int64_t slice = kTrailerSlice;
  int64_t row = 0;
  if (data.has_slice()) slice = data.slice().index();
  if (data.has_chunk()) {
    slice = data.chunk().slice();
    row = int64_t{data.chunk().index()} + 1;
  }
  const std::string value = data.SerializeAsString();
  unchecked_bytes_ += static_cast<int64_t>(value.size());
  if (unchecked_bytes_ >= kSpaceCheckBytes) {
    unchecked_bytes_ = 0;
    if (absl::Status space = store_->CheckSpace(); !space.ok()) return space;
  }
  return file_->Put(DataRow(KeyOf(part_), slice, row), value);
}

absl::StatusOr<v1::CheckpointPart> PartWriter::Commit() {
  if (absl::Status status = verifier_.Complete(); !status.ok()) {
    return OfPart(KeyOf(part_), status);
  }
  if (absl::Status status = file_->Finish(); !status.ok()) return status;
  ingested_ = true;  // or in part, should it fail
  if (absl::Status status = store_->store_->Ingest(*file_); !status.ok()) return status;
  part_.set_bytes(verifier_.bytes());
  part_.set_worker(store_->options_.worker);
  if (absl::Status status = store_->Commit(part_); !status.ok()) return status;
  committed_ = true;
  return part_;
}

}  // namespace sinkforge::worker
