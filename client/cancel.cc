// sinkforge cancel: ends jobs for good.
#include "client/commands.h"
#include "client/job_action.h"

namespace sinkforge::client {

Command CancelCommand() {
  return JobActionCommand("cancel", "Cancel jobs; their history and checkpoints stay",
                          "  sinkforge cancel d4-gated-1",
                          [](Session& session, const std::string& id) {
                            const auto job = session.coordinator().CancelJob(id);
                            if (job.ok()) PrintActedJob(session, *job);
                            return job.status();
                          });
}

}  // namespace sinkforge::client
