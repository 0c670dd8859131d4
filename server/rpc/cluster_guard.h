// ClusterGuard: workers of another cluster are not told what to do. All that they have is unknown
// here, and what is unknown they are told to stop and to delete.
#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"
#include "base/mutex.h"

namespace sinkforge::server {

// Thread-safe.
class ClusterGuard {
 public:
  // Of this coordinator's database.
  explicit ClusterGuard(std::string id) : id_(std::move(id)) {}

  const std::string& id() const { return id_; }
  // FAILED_PRECONDITION (OTHER_CLUSTER) where the worker's is another one; it may have none yet.
  // The log has a line about each such worker.
  absl::Status Check(const std::string& worker, const std::string& cluster_id)
      EXCLUDES_LOCK(mutex_);

 private:
  const std::string id_;
  base::Mutex mutex_;
  std::set<std::string> refused_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::server
