// KvFile: rows on their way into a KvStore as one file, which KvStore::Ingest takes over whole. For
// large values that come and go together: they pass through no log, are never merged with others,
// and KvStore::RemoveRange gives their space back at once, on a full disk too.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinkforge::base {

// Destroyed before it was ingested: nothing of it stays. Not thread-safe.
class KvFile {
 public:
  // On the file system of the store that is to have it. RESOURCE_EXHAUSTED, UNAVAILABLE.
  static absl::StatusOr<std::unique_ptr<KvFile>> Create(const std::string& path);
  ~KvFile();
  KvFile(const KvFile&) = delete;
  KvFile& operator=(const KvFile&) = delete;

  // In the order of the keys. RESOURCE_EXHAUSTED where the disk is full, else UNAVAILABLE; after an
  // error: destroy it.
  absl::Status Put(std::string_view key, std::string_view value);
  // After the last row, of which there is one at least: all of them are on disk, synced.
  absl::Status Finish();
  const std::string& path() const { return path_; }

 private:
  struct Writer;  // RocksDB's
  KvFile(const std::string& path, std::unique_ptr<Writer> writer);

  const std::string path_;
  const std::unique_ptr<Writer> writer_;
};

}  // namespace sinkforge::base
