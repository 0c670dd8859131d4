// From the damaged database to the new one; see salvage.h.
#include "worker/store/salvage.h"

#include <memory>
#include <string>

#include "base/kv_store_wreck.h"
#include "base/log.h"
#include "worker/process/process_ledger.h"

namespace sinkforge::worker {
namespace {

absl::Status SalvageFolder(const SalvageParts& parts, const std::string& folder) {
  base::LogInfo("what can be read of a damaged database is moved", {{"set_aside_as", folder}});
  auto wreck = base::KvWreck::Open(folder);
  if (!wreck.ok()) return wreck.status();
  ProcessLedger ledger(parts.database);
  if (absl::Status moved = ledger.Salvage(wreck->get()); !moved.ok()) return moved;
  const auto steps = parts.steps->Salvage(wreck->get());
  if (!steps.ok()) return steps.status();
  const auto lines = parts.logs->Salvage(wreck->get());
  if (!lines.ok()) return lines.status();
  if (parts.known_parts == SalvageParts::KnownParts::kInDamagedFiles) {
    parts.checkpoints->Adopt(wreck->get());
  }
  const auto checkpoints = parts.checkpoints->Salvage(wreck->get());
  if (!checkpoints.ok()) return checkpoints.status();
  (*wreck)->ReleaseAll();
  base::LogWarning("a damaged database is salvaged; its damaged files are kept to be looked at",
                   {{"set_aside_as", folder},
                    {"damaged_files", static_cast<int64_t>((*wreck)->damage().size())},
                    {"step_records_moved", *steps},
                    {"log_lines_moved", *lines},
                    {"checkpoint_parts_moved", *checkpoints}});
  return parts.database->MarkSalvaged(folder);
}

}  // namespace

absl::StatusOr<int64_t> Salvage(const SalvageParts& parts) {
  const auto folders = parts.database->Wrecks();
  if (!folders.ok()) return folders.status();
  for (const std::string& folder : *folders) {
    if (absl::Status moved = SalvageFolder(parts, folder); !moved.ok()) return moved;
  }
  return parts.checkpoints->DropMissing();
}

}  // namespace sinkforge::worker
