// Whose worker it is; see cluster_guard.h.
#include "server/rpc/cluster_guard.h"

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/rpc.h"
#include "server/rpc/errors.h"

namespace sinkforge::server {
namespace {

constexpr size_t kRefusedMax = 1024;  // remembered, so that the log does not repeat them
constexpr size_t kShownMax = 64;

}  // namespace

absl::Status ClusterGuard::Check(const std::string& worker, const std::string& cluster_id) {
  if (cluster_id.empty() || cluster_id == id_) return absl::OkStatus();
  const std::string message =
      absl::StrCat("worker ", Shorten(worker, kShownMax), " belongs to the cluster ",
                   Shorten(cluster_id, kShownMax), ", and this coordinator's database is of ", id_,
                   ": is the coordinator's --data-dir the right one, and the worker's "
                   "--coordinator? To give the "
                   "worker to this cluster, which deletes its checkpoints, stop it, remove the "
                   "file cluster-id in "
                   "its --data-dir, and start it again");
  bool is_news = false;
  {
    base::MutexLock lock(&mutex_);
    is_news = refused_.size() < kRefusedMax && refused_.insert(worker).second;
  }
  if (is_news) base::LogWarning("a worker of another cluster is refused", {{"error", message}});
  return base::WithReason(absl::FailedPreconditionError(message), "OTHER_CLUSTER");
}

}  // namespace sinkforge::server
