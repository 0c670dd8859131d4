// The table of a job's checkpoints.
#include "client/checkpoint_table.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/checkpoint_holders.h"
#include "client/format.h"

namespace sinkforge::client {

Table CheckpointTable(const v1::Job& job) {
  Table table({{"STEP", Table::Align::kRight},
               {"ATTEMPT", Table::Align::kRight},
               {"SIZE", Table::Align::kRight},
               {"LOSS", Table::Align::kRight},
               {"VALIDATION", Table::Align::kRight},
               {"IMBALANCE", Table::Align::kRight},
               {"COMMITTED"},
               {"HELD BY"}});
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    std::set<std::string> holders;
    for (const v1::CheckpointPart& part : EveryCopy(checkpoint)) holders.insert(part.worker());
    std::string held = absl::StrJoin(holders, ", ");
    if (checkpoint.copies_size() < checkpoint.parts_size()) absl::StrAppend(&held, " (one copy)");
    if (checkpoint.deleting()) absl::StrAppend(&held, " (being deleted)");
    const std::string validation =
        checkpoint.has_validation_loss() ? FormatNumber(checkpoint.validation_loss()) : "-";
    table.AddRow({absl::StrCat(checkpoint.step()), absl::StrCat(checkpoint.attempt()),
                  FormatBytes(checkpoint.bytes()), FormatNumber(checkpoint.loss()), validation,
                  FormatNumber(checkpoint.imbalance()), FormatTime(checkpoint.commit_time()),
                  held});
  }
  return table;
}

}  // namespace sinkforge::client
