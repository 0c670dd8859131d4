// A file with one line; see cluster_membership.h.
#include "worker/cluster_membership.h"

#include "absl/strings/ascii.h"
#include "base/files.h"
#include "base/log.h"

namespace sinkforge::worker {
namespace {

constexpr int64_t kBytesMax = 4096;

}  // namespace

absl::StatusOr<std::unique_ptr<ClusterMembership>> ClusterMembership::Open(
    const std::string& folder) {
  const std::string path = folder + "/cluster-id";
  absl::StatusOr<std::string> content = base::ReadFile(path, kBytesMax);
  if (absl::IsNotFound(content.status())) content = std::string();
  if (!content.ok()) return content.status();
  const std::string id(absl::StripAsciiWhitespace(*content));
  return std::unique_ptr<ClusterMembership>(new ClusterMembership(path, id));
}

std::string ClusterMembership::id() const {
  base::MutexLock lock(&mutex_);
  return id_;
}

bool ClusterMembership::Accept(const std::string& id) {
  base::MutexLock lock(&mutex_);
  if (id.empty() || id == id_) return true;
  if (!id_.empty()) {
    base::LogError("the coordinator is of another cluster; it is not obeyed",
                   {{"cluster_id", id_}, {"coordinators_cluster_id", id}});
    return false;
  }
  const absl::Status written = base::WriteFileDurably(path_, id + "\n");
  if (!written.ok()) {
    base::LogWarning("the cluster's id cannot be kept; the coordinator is obeyed once it is",
                     {{"file", path_}, {"error", std::string(written.message())}});
    return false;
  }
  id_ = id;
  return true;
}

}  // namespace sinkforge::worker
