// KvStore: an ordered key-value store on disk (RocksDB) with a schema version. The stores of the
// coordinator and of the worker are written on top of it; nothing else includes RocksDB.
// Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/kv_store_file.h"

namespace sinkforge::base {

// Written atomically, in order.
class KvBatch {
 public:
  void Put(std::string key, std::string value);
  void Delete(std::string key);
  // Every key in [begin, end).
  void DeleteRange(std::string begin, std::string end);
  bool empty() const { return operations_.empty(); }
  // Of keys and values.
  int64_t bytes() const { return bytes_; }
  bool only_deletes() const { return only_deletes_; }

 private:
  friend class KvStore;
  enum class Kind { kPut, kDelete, kDeleteRange };
  struct Operation {
    Kind kind;
    std::string key;
    std::string value;
  };
  void Add(Kind kind, std::string key, std::string value);

  std::vector<Operation> operations_;
  int64_t bytes_ = 0;
  bool only_deletes_ = true;
};

enum class Durability {
  kSynced,  // write-ahead log, synced: survives power loss when Write returns
  kLogged,  // write-ahead log: survives kill -9 of the process
};

// Moves a database of `from` to from + 1.
class KvStore;
using KvMigration = std::function<absl::Status(KvStore& store, int from)>;

struct KvOptions {
  std::string path;
  int schema_version = 1;
  KvMigration migrate;  // needed from schema_version 2 on
  int64_t write_buffer_bytes = 16 << 20;
  // A batch that puts anything is refused where it would leave less of the disk free than this, or
  // than a twentieth of the file system where that is less. 0: no reserve.
  int64_t reserve_bytes = 16 << 20;
  // Free bytes of the disk; the file system of `path` where unset.
  std::function<absl::StatusOr<int64_t>()> disk_free_bytes = nullptr;
};

class KvStore {
 public:
  // FAILED_PRECONDITION: the schema on disk is newer (upgrade this program), or another process has
  // it open.
  static absl::StatusOr<std::unique_ptr<KvStore>> Open(const KvOptions& options);
  virtual ~KvStore() = default;

  // RESOURCE_EXHAUSTED where the disk is full or its reserve is reached, else UNAVAILABLE; nothing
  // of the batch can be read then. A batch that only deletes may use the reserve, so that a full
  // disk can be emptied. A store whose disk was full takes writes again once there is room.
  absl::Status Write(const KvBatch& batch, Durability durability);
  // NOT_FOUND, DATA_LOSS. UNAVAILABLE, here and below: reopened after a failed write; ask again.
  virtual absl::StatusOr<std::string> Get(std::string_view key) const = 0;
  // Every key in [begin, end) in order, until `visit` returns false. DATA_LOSS names the database.
  virtual absl::Status Scan(
      std::string_view begin, std::string_view end,
      const std::function<bool(std::string_view key, std::string_view value)>& visit) const = 0;
  // The same from the end backwards.
  virtual absl::Status ScanBackwards(
      std::string_view begin, std::string_view end,
      const std::function<bool(std::string_view key, std::string_view value)>& visit) const = 0;
  // Takes over all rows of a finished file, durably, or none. They are where nothing else is.
  virtual absl::Status Ingest(const KvFile& file) = 0;
  // Removes every row in [begin, end). The disk space of files that were ingested and have no other
  // rows is free when it returns, or when a merging that is under way ends; that of others is freed
  // by merging, which may take seconds.
  virtual absl::Status RemoveRange(std::string_view begin, std::string_view end) = 0;
  // Size on disk and in memory of [begin, end), approximate.
  virtual int64_t ApproximateBytes(std::string_view begin, std::string_view end) const = 0;

 protected:
  virtual absl::Status DoWrite(const KvBatch& batch, Durability durability) = 0;
  template <typename PutFn, typename DeleteFn, typename RangeFn>
  static void Visit(const KvBatch& batch, PutFn put, DeleteFn del, RangeFn range) {
    for (const auto& op : batch.operations_) {
      switch (op.kind) {
        case KvBatch::Kind::kPut:
          put(op.key, op.value);
          break;
        case KvBatch::Kind::kDelete:
          del(op.key);
          break;
        case KvBatch::Kind::kDeleteRange:
          range(op.key, op.value);
          break;
      }
    }
  }
};

// Key encoding: parts joined so that byte order is part order. Numbers are 8 bytes, big-endian, and
// must not be negative; text must not contain a zero byte and ends with one.
class KeyBuilder {
 public:
  explicit KeyBuilder(std::string_view table) { Text(table); }
  KeyBuilder& Text(std::string_view text);
  KeyBuilder& Number(int64_t number);
  const std::string& key() const { return key_; }
  // The smallest key that is greater than every key with this prefix.
  std::string PrefixEnd() const;

 private:
  std::string key_;
};

// Reads a key back in the same order.
class KeyReader {
 public:
  explicit KeyReader(std::string_view key) : rest_(key) {}
  bool Text(std::string* text);
  bool Number(int64_t* number);
  bool done() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

}  // namespace sinkforge::base
