// sinkforge pause: checkpoints jobs and takes them off their slots.
#include "client/commands.h"
#include "client/job_action.h"

namespace sinkforge::client {

Command PauseCommand() {
  return JobActionCommand(
      "pause", "Checkpoint jobs and free their slots",
      "  sinkforge pause d4-gated-1 && sinkforge wait d4-gated-1   # exit code 12: paused",
      [](Session& session, const std::string& id) {
        const auto job = session.coordinator().PauseJob(id);
        if (job.ok()) PrintActedJob(session, *job);
        return job.status();
      });
}

}  // namespace sinkforge::client
