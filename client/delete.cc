// sinkforge delete: removes finished or paused jobs with all that they left.
#include <nlohmann/json.hpp>

#include "client/commands.h"
#include "client/job_action.h"

namespace sinkforge::client {

Command DeleteCommand() {
  return JobActionCommand(
      "delete", "Delete finished or paused jobs with history, events, logs and checkpoints",
      "  sinkforge delete d4-gated-1\n"
      "  sinkforge cancel d4-gated-2 && sinkforge wait d4-gated-2; sinkforge delete d4-gated-2",
      [](Session& session, const std::string& id) {
        const absl::Status status = session.coordinator().DeleteJob(id);
        if (!status.ok()) return status;
        if (session.json()) {
          session.out() << nlohmann::json{{"job_id", id}, {"deleted", true}}.dump() << std::endl;
        } else {
          session.out() << id << " deleted" << std::endl;
        }
        return status;
      });
}

}  // namespace sinkforge::client
