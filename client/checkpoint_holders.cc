// Holders of checkpoint parts; see checkpoint_holders.h.
#include "client/checkpoint_holders.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace sinkforge::client {

std::vector<v1::CheckpointPart> EveryCopy(const v1::Checkpoint& checkpoint) {
  std::vector<v1::CheckpointPart> all(checkpoint.parts().begin(), checkpoint.parts().end());
  all.insert(all.end(), checkpoint.copies().begin(), checkpoint.copies().end());
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.rank() < b.rank(); });
  return all;
}

std::vector<std::string> HoldersOfRank(const v1::Checkpoint& checkpoint, int32_t rank) {
  std::vector<std::string> holders;
  for (const v1::CheckpointPart& part : EveryCopy(checkpoint)) {
    if (part.rank() == rank) holders.push_back(part.worker());
  }
  return holders;
}

absl::StatusOr<std::string> AddressOf(const v1::ListWorkersResponse& workers,
                                      const std::string& name) {
  for (const v1::Worker& worker : workers.workers()) {
    if (worker.worker() != name) continue;
    const bool is_away =
        worker.state() == v1::WORKER_STATE_LOST || worker.state() == v1::WORKER_STATE_STOPPED;
    if (is_away) break;
    return worker.address();
  }
  return absl::UnavailableError(absl::StrCat(
      "worker ", name, ", which holds the checkpoint, is away; start it and try again (see ",
      "`sinkforge workers`)"));
}

}  // namespace sinkforge::client
