// sinkforge watch: live progress of one job.
#include <memory>

#include "client/commands.h"
#include "client/exit_code.h"
#include "client/follow.h"
#include "client/session.h"

namespace sinkforge::client {
namespace {

absl::StatusOr<int> Watch(Session& session, const FollowOptions& options) {
  if (options.after_step < -1) return UsageError("--after-step must be 0 (all steps) or more");
  StopSignal stop(StopSignal::Source::kSignals);
  return FollowJob(session, &stop, options);
}

}  // namespace

Command WatchCommand() {
  auto options = std::make_shared<FollowOptions>();
  Command command;
  command.name = "watch";
  command.summary = "Show a job's progress until it ends or pauses";
  command.examples =
      "  sinkforge watch d4-gated-1               # Ctrl-C leaves the job running\n"
      "  sinkforge watch d4-gated-1 -o json --after-step 0 | jq .steps";
  command.arguments = {{.name = "JOB", .help = "The job's id", .target = &options->job_id}};
  command.options = {{"--after-step", "N",
                      "With -o json: every step's record after step N (0: all)",
                      &options->after_step}};
  command.run = [options](Session& session) { return Watch(session, *options); };
  return command;
}

}  // namespace sinkforge::client
