// ClusterMembership: which cluster a worker's data belong to. A coordinator that knows nothing of
// them, because it is another one or was started on an empty folder, must not have them deleted.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace sinkforge::worker {

// Thread-safe.
class ClusterMembership {
 public:
  // In the file `cluster-id` of the worker's data folder, so that it outlives a damaged database.
  // UNAVAILABLE, DATA_LOSS: the file cannot be read.
  static absl::StatusOr<std::unique_ptr<ClusterMembership>> Open(const std::string& folder);

  // Empty before the first coordinator.
  std::string id() const EXCLUDES_LOCK(mutex_);
  // Whether a coordinator of that cluster may be obeyed. The first one's is kept, durably; where
  // that fails it is not obeyed yet. One that names no cluster is.
  bool Accept(const std::string& id) EXCLUDES_LOCK(mutex_);

 private:
  ClusterMembership(std::string path, std::string id)
      : path_(std::move(path)), id_(std::move(id)) {}

  const std::string path_;
  mutable base::Mutex mutex_;
  std::string id_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::worker
