// WorkerDatabase: the worker's database, which mends itself. Where its files turn out to be
// damaged, they are set aside and an empty database takes their place, in the middle of whatever
// goes on; salvage.h then moves over what can still be read.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/kv_store.h"
#include "base/mutex.h"
#include "worker/wakeup.h"

namespace sinkforge::worker {

// Thread-safe.
class WorkerDatabase final : public base::KvStore {
 public:
  // `on_damage` is called on the thread that met the damage, which may hold locks of its own.
  // FAILED_PRECONDITION, UNAVAILABLE: as of KvStore. What is damaged is set aside.
  static absl::StatusOr<std::unique_ptr<WorkerDatabase>> Open(base::KvOptions options,
                                                              std::function<void()> on_damage);

  // Rows may be missing here that a folder of Wrecks() still has.
  bool is_wrecked() const { return wrecked_; }
  // How often a database was set aside, since Open began.
  int64_t set_aside_count() const { return set_aside_count_; }
  // Folders that were set aside and that nobody has salvaged, oldest first. UNAVAILABLE: one is not
  // there yet, because of readers that have the damaged database open.
  absl::StatusOr<std::vector<std::string>> Wrecks();
  // What can be read there is here now. The folder stays for people to look at; of these, the
  // newest few do.
  absl::Status MarkSalvaged(const std::string& folder);

  // As of KvStore. DATA_LOSS: the damage, which only reads report; the database is set aside then.
  // UNAVAILABLE, too: readers still have the damaged database open; ask again.
  absl::StatusOr<std::string> Get(std::string_view key) const override;
  absl::Status Scan(
      std::string_view begin, std::string_view end,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override;
  absl::Status ScanBackwards(
      std::string_view begin, std::string_view end,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override;
  absl::Status Ingest(const base::KvFile& file) override;
  absl::Status RemoveRange(std::string_view begin, std::string_view end) override;
  int64_t ApproximateBytes(std::string_view begin, std::string_view end) const override;

 protected:
  absl::Status DoWrite(const base::KvBatch& batch, base::Durability durability) override;

 private:
  using Inner = std::shared_ptr<base::KvStore>;  // shared with the calls that use it now
  // Told when the database has let go of its files.
  struct Closing {
    std::atomic<bool> done = false;
    Wakeup wakeup;
  };

  WorkerDatabase(base::KvOptions options, std::function<void()> on_damage)
      : options_(std::move(options)), on_damage_(std::move(on_damage)) {}
  absl::StatusOr<Inner> Database() const EXCLUDES_LOCK(mutex_);
  absl::Status OpenLocked() const REQUIRES_LOCK(mutex_);
  absl::Status RenameLocked(const absl::Status& why) const REQUIRES_LOCK(mutex_);
  // A damaged database takes no more writes; the one in its place does.
  absl::Status Change(const std::function<absl::Status(base::KvStore*)>& change);
  // Does nothing unless the status says that the files are damaged.
  void Judge(Inner database, const absl::Status& status) const EXCLUDES_LOCK(mutex_);
  std::vector<std::string> FoldersSetAside() const;

  const base::KvOptions options_;
  const std::function<void()> on_damage_;
  mutable std::atomic<bool> wrecked_ = false;
  mutable std::atomic<int64_t> set_aside_count_ = 0;
  mutable base::Mutex mutex_;
  mutable Inner database_ GUARDED_BY(mutex_);  // null from the damage until the next call
  // Why it is to be renamed before another is opened; OK: it is not.
  mutable absl::Status damage_ GUARDED_BY(mutex_);
  mutable std::shared_ptr<Closing> closing_ GUARDED_BY(mutex_);  // shared with its deleter
};

}  // namespace sinkforge::worker
