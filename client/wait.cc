// sinkforge wait: returns when jobs have ended, with the exit code that says how.
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/follow.h"
#include "client/format.h"
#include "client/session.h"

namespace sinkforge::client {
namespace {

struct WaitOptions {
  std::vector<std::string> jobs;
  std::string until = "end";
};

// A job that ends before it ran will never run: that ends the wait as well.
bool IsReached(const v1::Job& job, const std::string& until) {
  if (IsSettled(job.state())) return true;
  if (until == "end") return false;
  return until == "running" ? job.state() == v1::JOB_STATE_RUNNING : job.progress().step() > 0;
}

absl::StatusOr<int> Wait(Session& session, const WaitOptions& options) {
  StopSignal stop(StopSignal::Source::kSignals);
  int worst = kExitOk;
  for (const std::string& id : options.jobs) {
    v1::WatchJobRequest request;
    request.set_job_id(id);
    request.set_after_step(-1);
    v1::Job last;
    const absl::Status status =
        session.coordinator().WatchJob(request, &stop, [&](const v1::WatchJobResponse& message) {
          last = message.job();
          return !IsReached(last, options.until);
        });
    if (absl::IsCancelled(status) && stop.stopped()) {
      session.Say(absl::StrCat("interrupted; ", id, " goes on"));
      return kExitInterrupted;
    }
    if (!status.ok()) return status;
    if (session.json()) {
      session.PrintJsonLine(last);
    } else {
      session.out() << id << " " << StateName(last.state()) << std::endl;
    }
    ExplainEnd(session, last);
    if (worst == kExitOk) worst = ExitCodeOf(last.state());
  }
  return worst;
}

}  // namespace

Command WaitCommand() {
  auto options = std::make_shared<WaitOptions>();
  Command command;
  command.name = "wait";
  command.summary = "Wait until jobs have ended or paused; the exit code says how";
  command.examples =
      "  sinkforge wait d4-gated-1 && sinkforge checkpoints export d4-gated-1 model.safetensors\n"
      "  sinkforge wait d4-gated-1 --until first-step\n"
      "With -o json every job is one line, as soon as its turn comes.\n"
      "Exit code: of the first job that did not succeed: 10 failed, 11 cancelled, 12 paused.";
  command.arguments = {{.name = "JOB", .help = "Job ids", .target = &options->jobs}};
  command.options = {{"--until",
                      "EVENT",
                      "One of end, running, first-step (default: end)",
                      &options->until,
                      {"end", "running", "first-step"}}};
  command.run = [options](Session& session) { return Wait(session, *options); };
  return command;
}

}  // namespace sinkforge::client
