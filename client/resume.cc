// sinkforge resume: lets paused and failed jobs go on.
#include "client/commands.h"
#include "client/job_action.h"

namespace sinkforge::client {

Command ResumeCommand() {
  return JobActionCommand("resume", "Queue paused or failed jobs again, from their last checkpoint",
                          "  sinkforge resume d4-gated-1 && sinkforge watch d4-gated-1",
                          [](Session& session, const std::string& id) {
                            const auto job = session.coordinator().ResumeJob(id);
                            if (job.ok()) PrintActedJob(session, *job);
                            return job.status();
                          });
}

}  // namespace sinkforge::client
