// Validation of what workers send; see snapshot_check.h.
#include "server/state/snapshot_check.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace sinkforge::server {
namespace {

constexpr size_t kNameBytesMax = 63;          // a DNS label, so that host names can be used
constexpr size_t kIncarnationBytesMax = 128;  // four times what base::RandomId makes

bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= kNameBytesMax &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
         });
}

absl::Status CheckSlots(const v1::WorkerSnapshot& snapshot, int slots_max) {
  if (snapshot.slots_size() > slots_max) {
    return absl::InvalidArgumentError(absl::StrCat("worker ", snapshot.worker(), ": ",
                                                   snapshot.slots_size(), " slots; at most ",
                                                   slots_max, " are taken"));
  }
  std::set<int32_t> indices;
  for (const v1::Slot& slot : snapshot.slots()) {
    if (slot.index() < 0 || !indices.insert(slot.index()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("worker ", snapshot.worker(), ": slot index ", slot.index(),
                       " is negative or there twice; number the slots 0, 1, ..."));
    }
    if (slot.device() != v1::DEVICE_CPU && slot.device() != v1::DEVICE_CUDA) {
      return absl::InvalidArgumentError(
          absl::StrCat("worker ", snapshot.worker(), ": slot ", slot.index(),
                       " has a device that this coordinator does not know; upgrade the coordinator "
                       "first"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSnapshot(const v1::WorkerSnapshot& snapshot, const CoordinatorOptions& options) {
  if (!IsName(snapshot.worker())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "worker name '", snapshot.worker().substr(0, kNameBytesMax),
        "': must be 1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-'; choose one with --name"));
  }
  if (snapshot.incarnation().empty() || snapshot.incarnation().size() > kIncarnationBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("worker ", snapshot.worker(),
                                                   ": the incarnation must be 1 to ",
                                                   kIncarnationBytesMax, " bytes"));
  }
  if (snapshot.report_sequence() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("worker ", snapshot.worker(), ": report_sequence is negative"));
  }
  if (snapshot.ranks_size() + snapshot.checkpoint_parts_size() > options.snapshot_entries_max) {
    return absl::InvalidArgumentError(absl::StrCat("worker ", snapshot.worker(), ": more than ",
                                                   options.snapshot_entries_max,
                                                   " ranks and checkpoint parts; delete old jobs"));
  }
  return CheckSlots(snapshot, options.slots_per_worker_max);
}

}  // namespace sinkforge::server
