// RocksDB behind KvStore; see kv_store.h.
#include "base/kv_store.h"

#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/slice.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "base/check.h"
#include "base/files.h"
#include "base/kv_store_rocks.h"
#include "base/log.h"
#include "base/mutex.h"

namespace sinkforge::base {
namespace {

// Sorts before every table name, which KeyBuilder makes of printable text.
constexpr char kSchemaKey[] = "\x01schema_version";

std::string_view FromSlice(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

// RocksDB's errors go to this program's log. Its own logger keeps a file beside the data, and a
// RocksDB built with assertions aborts at the second line that this file has no room for.
class ErrorLogger final : public rocksdb::Logger {
 public:
  ErrorLogger() : rocksdb::Logger(rocksdb::InfoLogLevel::ERROR_LEVEL) {}
  using rocksdb::Logger::Logv;
  void LogHeader(const char*, va_list) override {}
  void Logv(const char* format, va_list arguments) override {
    char line[1024];
    std::vsnprintf(line, sizeof(line), format, arguments);
    LogError("RocksDB", {{"error", std::string(line)}});
  }
};

rocksdb::Options RocksOptions(const KvOptions& options) {
  rocksdb::Options rocks = TableOptions();
  rocks.create_if_missing = true;
  rocks.write_buffer_size = static_cast<size_t>(options.write_buffer_bytes);
  rocks.max_write_buffer_number = 3;
  rocks.max_background_jobs = 2;
  rocks.max_open_files = 512;
  rocks.keep_log_file_num = 2;
  rocks.max_log_file_size = 1 << 20;
  rocks.max_total_wal_size = 64 << 20;
  rocks.info_log = std::make_shared<ErrorLogger>();
  // A flush or a compaction that found the disk full is tried again until there is room. For the
  // write-ahead log, which RocksDB cannot resume, RocksStore reopens the database.
  rocks.max_bgerror_resume_count = 2'000'000'000;
  rocks.bgerror_resume_retry_interval = 1'000'000;
  // Nobody waits for a compaction, which a full disk may refuse for good. Reserves keep what is
  // written meanwhile within bounds.
  rocks.level0_slowdown_writes_trigger = rocks.level0_stop_writes_trigger = 1 << 20;
  rocks.soft_pending_compaction_bytes_limit = rocks.hard_pending_compaction_bytes_limit = 0;
  return rocks;
}

class RocksStore final : public KvStore {
 public:
  RocksStore(std::unique_ptr<rocksdb::DB> db, KvOptions options)
      : options_(std::move(options)),
        path_(options_.path),
        name_("database " + path_),
        db_(std::move(db)) {
    if (!options_.disk_free_bytes) {
      options_.disk_free_bytes = [path = path_] { return DiskFreeBytes(path); };
    }
    std::error_code error;
    const std::filesystem::space_info space = std::filesystem::space(path_, error);
    if (!error) {
      options_.reserve_bytes =
          std::min(options_.reserve_bytes, static_cast<int64_t>(space.capacity / 20));
    }
  }

  absl::StatusOr<std::string> Get(std::string_view key) const override {
    const auto db = Database();
    if (!db.ok()) return db.status();
    std::string value;
    const rocksdb::Status status = (*db)->Get({}, ToSlice(key), &value);
    if (!status.ok()) return FromRocks(status, name_);
    return value;
  }

  absl::Status Scan(
      std::string_view begin, std::string_view end,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    const auto db = Database();
    if (!db.ok()) return db.status();
    const rocksdb::Slice upper = ToSlice(end);
    rocksdb::ReadOptions read;
    read.iterate_upper_bound = &upper;
    // A scan is long, and what checks data must see the disk's the next time as well.
    read.fill_cache = false;
    const std::unique_ptr<rocksdb::Iterator> it((*db)->NewIterator(read));
    for (it->Seek(ToSlice(begin)); it->Valid(); it->Next()) {
      if (!visit(FromSlice(it->key()), FromSlice(it->value()))) break;
    }
    return FromRocks(it->status(), name_);
  }

  absl::Status ScanBackwards(
      std::string_view begin, std::string_view end,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    const auto db = Database();
    if (!db.ok()) return db.status();
    const rocksdb::Slice lower = ToSlice(begin);
    const rocksdb::Slice upper = ToSlice(end);
    rocksdb::ReadOptions read;
    read.iterate_lower_bound = &lower;
    read.iterate_upper_bound = &upper;
    const std::unique_ptr<rocksdb::Iterator> it((*db)->NewIterator(read));
    for (it->SeekToLast(); it->Valid(); it->Prev()) {
      if (!visit(FromSlice(it->key()), FromSlice(it->value()))) break;
    }
    return FromRocks(it->status(), name_);
  }

  absl::Status Ingest(const KvFile& file) override {
    const auto db = Database();
    if (!db.ok()) return db.status();
    rocksdb::IngestExternalFileOptions options;
    options.move_files = true;
    return FromRocks((*db)->IngestExternalFile({file.path()}, options), name_);
  }

  absl::Status RemoveRange(std::string_view begin, std::string_view end) override {
    auto db = Database();
    if (!db.ok()) return db.status();
    const rocksdb::Slice first = ToSlice(begin);
    const rocksdb::Slice last = ToSlice(end);
    const rocksdb::RangePtr range(&first, &last);
    const rocksdb::Status removed = rocksdb::DeleteFilesInRanges(
        db->get(), (*db)->DefaultColumnFamily(), &range, 1, /*include_end=*/false);
    if (!removed.ok()) return FromRocks(removed, name_);
    bool is_empty = true;
    const absl::Status scanned = Scan(begin, end, [&](std::string_view, std::string_view) {
      is_empty = false;
      return false;
    });
    if (!scanned.ok() || is_empty) return scanned;
    // Rows that share files with others.
    KvBatch batch;
    batch.DeleteRange(std::string(begin), std::string(end));
    if (absl::Status written = DoWrite(batch, Durability::kLogged); !written.ok()) return written;
    rocksdb::CompactRangeOptions options;
    options.exclusive_manual_compaction = false;
    options.allow_write_stall = true;
    return FromRocks((*db)->CompactRange(options, &first, &last), name_);
  }

  int64_t ApproximateBytes(std::string_view begin, std::string_view end) const override {
    const auto db = Database();
    if (!db.ok()) return 0;
    rocksdb::SizeApproximationOptions options;
    options.include_memtables = true;
    const rocksdb::Range range(ToSlice(begin), ToSlice(end));
    uint64_t bytes = 0;
    const rocksdb::Status status =
        (*db)->GetApproximateSizes(options, (*db)->DefaultColumnFamily(), &range, 1, &bytes);
    return status.ok() ? static_cast<int64_t>(bytes) : 0;
  }

 protected:
  absl::Status DoWrite(const KvBatch& batch, Durability durability) override {
    if (absl::Status space = CheckReserve(batch); !space.ok()) return space;
    auto db = Database();
    if (!db.ok()) return db.status();
    rocksdb::WriteBatch write;
    rocksdb::Status status;
    const auto note = [&status](const rocksdb::Status& s) {
      if (status.ok()) status = s;
    };
    Visit(
        batch,
        [&](const std::string& key, const std::string& value) { note(write.Put(key, value)); },
        [&](const std::string& key) { note(write.Delete(key)); },
        [&](const std::string& begin, const std::string& end) {
          note(write.DeleteRange(begin, end));
        });
    if (status.ok()) {
      rocksdb::WriteOptions options;
      options.sync = durability == Durability::kSynced;
      status = (*db)->Write(options, &write);
    }
    if (status.IsIOError()) Abandon(*std::move(db), status);
    return FromRocks(status, name_);
  }

 private:
  using SharedDb = std::shared_ptr<rocksdb::DB>;

  // Asked at every write: a statvfs costs about a microsecond, and a cached answer would let a fast
  // writer beside us use up the reserve unseen.
  absl::Status CheckReserve(const KvBatch& batch) const {
    if (options_.reserve_bytes <= 0 || batch.only_deletes()) return absl::OkStatus();
    const auto free = options_.disk_free_bytes();
    if (!free.ok()) return free.status();
    if (*free - batch.bytes() >= options_.reserve_bytes) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        "database " + path_ + ": disk full: " + std::to_string(*free) + " bytes free, of which " +
        std::to_string(options_.reserve_bytes) +
        " stay in reserve; free some space on that disk, and writes go on by themselves");
  }

  // The open database; opens it anew where a failed write has closed it. UNAVAILABLE while a reader
  // still uses the closed one.
  absl::StatusOr<SharedDb> Database() const {
    MutexLock lock(&mutex_);
    if (db_ != nullptr) return db_;
    rocksdb::DB* raw = nullptr;
    const rocksdb::Status status = rocksdb::DB::Open(RocksOptions(options_), path_, &raw);
    if (!status.ok()) return FromRocks(status, name_);
    db_.reset(raw);
    LogInfo("the database is open again", {{"database", path_}});
    return db_;
  }

  // A log whose append failed never takes another one, and DB::Resume does not change that; where
  // RocksDB is built with assertions its own attempt to resume aborts the program. What was
  // acknowledged is on disk, so the database is closed as soon as its last reader is done.
  void Abandon(SharedDb failed, const rocksdb::Status& error) {
    MutexLock lock(&mutex_);
    if (db_ != failed) return;
    LogWarning("a write failed; the database is opened again",
               {{"database", path_}, {"error", error.ToString()}});
    db_.reset();
  }

  KvOptions options_;
  const std::string path_;
  const std::string name_;  // in messages
  mutable Mutex mutex_;
  // Null from a failed write until it is open again.
  mutable SharedDb db_ GUARDED_BY(mutex_);
};

// Writes the schema version of a new database, migrates an older one, refuses a newer one.
absl::Status CheckSchema(KvStore& store, const KvOptions& options) {
  const auto found = store.Get(kSchemaKey);
  int version = options.schema_version;
  if (found.ok()) {
    version = std::atoi(found->c_str());
  } else if (!absl::IsNotFound(found.status())) {
    return found.status();
  }
  if (version > options.schema_version) {
    return absl::FailedPreconditionError(
        "database " + options.path + ": schema version " + std::to_string(version) +
        " is newer than this program's " + std::to_string(options.schema_version) +
        "; run a newer SinkForge, or give another --data-dir");
  }
  const bool is_new = !found.ok();
  for (; version < options.schema_version; ++version) {
    SINKFORGE_REQUIRE(options.migrate != nullptr);
    const absl::Status migrated = options.migrate(store, version);
    if (!migrated.ok()) return migrated;
    KvBatch batch;
    batch.Put(kSchemaKey, std::to_string(version + 1));
    const absl::Status written = store.Write(batch, Durability::kSynced);
    if (!written.ok()) return written;
  }
  if (!is_new) return absl::OkStatus();
  KvBatch batch;
  batch.Put(kSchemaKey, std::to_string(options.schema_version));
  return store.Write(batch, Durability::kSynced);
}

}  // namespace

void KvBatch::Add(Kind kind, std::string key, std::string value) {
  bytes_ += static_cast<int64_t>(key.size() + value.size());
  only_deletes_ = only_deletes_ && kind != Kind::kPut;
  operations_.push_back({kind, std::move(key), std::move(value)});
}

void KvBatch::Put(std::string key, std::string value) {
  Add(Kind::kPut, std::move(key), std::move(value));
}
void KvBatch::Delete(std::string key) { Add(Kind::kDelete, std::move(key), {}); }
void KvBatch::DeleteRange(std::string begin, std::string end) {
  Add(Kind::kDeleteRange, std::move(begin), std::move(end));
}

absl::Status KvStore::Write(const KvBatch& batch, Durability durability) {
  if (batch.empty()) return absl::OkStatus();
  return DoWrite(batch, durability);
}

absl::StatusOr<std::unique_ptr<KvStore>> KvStore::Open(const KvOptions& options) {
  const absl::Status folder = MakeFolder(options.path);
  if (!folder.ok()) return folder;
  rocksdb::DB* raw = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(RocksOptions(options), options.path, &raw);
  if (!status.ok()) {
    if (status.IsIOError() && status.ToString().find("/LOCK") != std::string::npos) {
      return absl::FailedPreconditionError(
          "database " + options.path +
          ": another process has it open; stop that one, or give another --data-dir");
    }
    return FromRocks(status, "database " + options.path);
  }
  auto store = std::make_unique<RocksStore>(std::unique_ptr<rocksdb::DB>(raw), options);
  const absl::Status schema = CheckSchema(*store, options);
  if (!schema.ok()) return schema;
  return std::unique_ptr<KvStore>(std::move(store));
}

KeyBuilder& KeyBuilder::Text(std::string_view text) {
  SINKFORGE_REQUIRE(text.find('\0') == std::string_view::npos);
  key_.append(text);
  key_.push_back('\0');
  return *this;
}

KeyBuilder& KeyBuilder::Number(int64_t number) {
  SINKFORGE_REQUIRE(number >= 0);
  for (int shift = 56; shift >= 0; shift -= 8) {
    key_.push_back(static_cast<char>((number >> shift) & 0xff));
  }
  return *this;
}

std::string KeyBuilder::PrefixEnd() const {
  std::string end = key_;
  while (!end.empty() && static_cast<unsigned char>(end.back()) == 0xff) end.pop_back();
  SINKFORGE_REQUIRE(!end.empty());
  end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return end;
}

bool KeyReader::Text(std::string* text) {
  const size_t zero = rest_.find('\0');
  if (zero == std::string_view::npos) return false;
  text->assign(rest_.substr(0, zero));
  rest_.remove_prefix(zero + 1);
  return true;
}

bool KeyReader::Number(int64_t* number) {
  if (rest_.size() < 8) return false;
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) {
    value = (value << 8) | static_cast<unsigned char>(rest_[static_cast<size_t>(i)]);
  }
  *number = static_cast<int64_t>(value);
  rest_.remove_prefix(8);
  return true;
}

}  // namespace sinkforge::base
