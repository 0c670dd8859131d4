// CheckpointStore: the checkpoint parts on this worker. A part is there when its manifest is:
// chunks are written without the write-ahead log and flushed, then the manifest is written and
// synced. A part without a manifest is removed at the next start.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/kv_store.h"
#include "base/kv_store_wreck.h"
#include "base/mutex.h"
#include "proto/checkpoint_format/checkpoint_stream.h"
#include "sinkforge/v1/checkpoint_service.pb.h"
#include "sinkforge/v1/job.pb.h"
#include "worker/keys.h"

namespace sinkforge::worker {

struct CheckpointStoreOptions {
  std::string worker;         // goes into the parts
  std::string path;           // the data folder; parts on their way in are in its folder `incoming`
  int64_t reserve_bytes = 0;  // of the disk, which checkpoints leave free
  std::function<absl::StatusOr<int64_t>()> disk_free_bytes;
  // Parts may be here whose rows are still to be salvaged. Unset: never.
  std::function<bool()> rows_may_be_missing = nullptr;
};

class PartWriter;

PartKey KeyOf(const v1::CheckpointPart& part);
// Whether it can be the key of a part: what another machine or a damaged file says may not be.
bool IsPossible(const PartKey& key);

// The same error with the part's job, attempt, step and rank before its message.
absl::Status OfPart(const PartKey& key, const absl::Status& status);

// Thread-safe. Outlives its writers.
class CheckpointStore {
 public:
  // Removes half-written parts. UNAVAILABLE, DATA_LOSS: of the database.
  static absl::StatusOr<std::unique_ptr<CheckpointStore>> Open(base::KvStore* store,
                                                               CheckpointStoreOptions options);

  // INVALID_ARGUMENT: impossible names or numbers. ALREADY_EXISTS: it is there, or being written.
  // RESOURCE_EXHAUSTED: less than the reserve is free; names the path and the free bytes.
  absl::StatusOr<std::unique_ptr<PartWriter>> Begin(const v1::CheckpointPart& part)
      EXCLUDES_LOCK(mutex_);
  // NOT_FOUND.
  absl::StatusOr<v1::CheckpointPart> Find(const PartKey& key) const EXCLUDES_LOCK(mutex_);
  // Calls `visit` with every message of the part, in order, until it returns false. Only the
  // tensors whose names start with one of `prefixes` (empty: all); slices are then numbered anew
  // and the trailer counts what is sent. NOT_FOUND; DATA_LOSS names job, step, tensor and chunk;
  // UNAVAILABLE: it is still to be salvaged.
  absl::Status Read(const PartKey& key, const std::vector<std::string>& prefixes,
                    const std::function<bool(const v1::CheckpointData&)>& visit) const;
  // One part, which is there no more afterwards. Unknown: nothing to do. UNAVAILABLE.
  absl::Status DropPart(const PartKey& key) EXCLUDES_LOCK(mutex_);
  // Every part of the checkpoint. A part that is being written ends with ABORTED. With a `job_uid`,
  // only the durable parts that have it.
  absl::Status Drop(const CheckpointKey& key, const std::string& job_uid = "")
      EXCLUDES_LOCK(mutex_);

  // Adds the parts whose manifests are in a damaged database to those that are said to be here.
  void Adopt(base::KvWreck* wreck) EXCLUDES_LOCK(mutex_);
  // Moves the rows of the parts that are said to be here and are whole in a damaged database.
  // Returns how many there were. UNAVAILABLE, RESOURCE_EXHAUSTED: not all were looked at.
  absl::StatusOr<int64_t> Salvage(base::KvWreck* wreck) EXCLUDES_LOCK(mutex_);
  // After every damaged database was salvaged: drops the parts that are said to be here and are
  // not, and returns how many there were. UNAVAILABLE.
  absl::StatusOr<int64_t> DropMissing() EXCLUDES_LOCK(mutex_);

  std::vector<v1::CheckpointPart> Parts() const EXCLUDES_LOCK(mutex_);
  std::set<CheckpointKey> Checkpoints() const EXCLUDES_LOCK(mutex_);
  int64_t bytes() const EXCLUDES_LOCK(mutex_);

 private:
  friend class PartWriter;
  enum class Writing { kOpen, kDropped };

  CheckpointStore(base::KvStore* store, CheckpointStoreOptions options);
  absl::Status Load();
  absl::Status RemoveHalfWritten();
  absl::Status CheckSpace() const;
  std::string IncomingFolder() const { return options_.path + "/incoming"; }
  // The part is in writing_.
  absl::StatusOr<std::unique_ptr<PartWriter>> MakeWriter(const v1::CheckpointPart& part)
      EXCLUDES_LOCK(mutex_);
  bool RowsMayBeMissing() const {
    return options_.rows_may_be_missing && options_.rows_may_be_missing();
  }
  // DATA_LOSS: it cannot be read as a whole. ABORTED: it was dropped meanwhile.
  absl::Status SalvagePart(const v1::CheckpointPart& part, base::KvWreck* wreck)
      EXCLUDES_LOCK(mutex_);
  // Removes the rows; where the disk does not let it, again at the next call of anything here that
  // writes.
  void RemoveRows(const PartKey& key) EXCLUDES_LOCK(mutex_);
  void RetryRemovals() EXCLUDES_LOCK(mutex_);
  absl::Status Commit(const v1::CheckpointPart& part) EXCLUDES_LOCK(mutex_);
  void Close(const PartKey& key) EXCLUDES_LOCK(mutex_);

  base::KvStore* const store_;
  const CheckpointStoreOptions options_;
  base::Mutex removal_mutex_;  // taken before mutex_
  mutable base::Mutex mutex_;
  std::map<PartKey, v1::CheckpointPart> parts_ GUARDED_BY(mutex_);
  std::map<PartKey, Writing> writing_ GUARDED_BY(mutex_);
  std::set<PartKey> removals_ GUARDED_BY(mutex_);
  int64_t files_ GUARDED_BY(mutex_) = 0;  // numbers those in the folder of parts on their way in
};

// One part on its way in. Destroyed before Commit succeeded: nothing of it stays. Not thread-safe.
class PartWriter {
 public:
  ~PartWriter();
  PartWriter(const PartWriter&) = delete;
  PartWriter& operator=(const PartWriter&) = delete;

  // DATA_LOSS, FAILED_PRECONDITION: of PartVerifier; RESOURCE_EXHAUSTED: the disk is full. After an
  // error: destroy it.
  absl::Status Add(const v1::CheckpointData& data);
  // Durable when it returns OK. DATA_LOSS: the stream had no trailer. ABORTED: the checkpoint was
  // dropped meanwhile. UNAVAILABLE, RESOURCE_EXHAUSTED.
  absl::StatusOr<v1::CheckpointPart> Commit();

 private:
  friend class CheckpointStore;
  PartWriter(CheckpointStore* store, const v1::CheckpointPart& part,
             std::unique_ptr<base::KvFile> file);

  CheckpointStore* const store_;
  v1::CheckpointPart part_;
  std::unique_ptr<base::KvFile> file_;
  checkpoint::PartVerifier verifier_;
  int64_t unchecked_bytes_ = 0;  // written since the free space was looked at
  bool ingested_ = false;
  bool committed_ = false;
};

}  // namespace sinkforge::worker
