// FollowJob: the watch stream on a progress display.
#include "client/follow.h"

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/progress.h"

namespace sinkforge::client {
namespace {

// The progress line shows these already.
bool IsWorthALine(const v1::Event& event) {
  return event.kind() != v1::EVENT_KIND_SUBMITTED && event.kind() != v1::EVENT_KIND_STATE_CHANGED;
}

}  // namespace

void ExplainEnd(const Session& session, const v1::Job& job) {
  if (job.state() == v1::JOB_STATE_PAUSED) {
    session.Say(
        absl::StrCat(job.job_id(), " is paused; go on with `sinkforge resume ", job.job_id(), "`"));
    return;
  }
  if (job.state() == v1::JOB_STATE_CANCELLED) {
    session.Say(absl::StrCat(job.job_id(), " was cancelled"));
    return;
  }
  if (job.state() != v1::JOB_STATE_FAILED) return;
  std::string text = absl::StrCat(job.job_id(), " failed: ", ReasonName(job.reason()));
  if (!job.message().empty()) absl::StrAppend(&text, ": ", OneLine(job.message()));
  if (!job.checkpoints().empty()) {
    absl::StrAppend(&text, "; its last checkpoint is of step ", job.checkpoints().rbegin()->step());
  }
  absl::StrAppend(&text, "; what it printed: `sinkforge logs ", job.job_id(), "`");
  session.Say(text);
}

absl::StatusOr<int> FollowJob(Session& session, StopSignal* stop, const FollowOptions& options) {
  const base::RealClock clock;
  const Environment& environment = session.environment();
  auto display = environment.out_is_terminal
                     ? MakeTerminalDisplay(environment.out, environment.width, session.out_style())
                     : MakePlainDisplay(environment.out);
  session.coordinator().OnWait([&](const std::string& message) {
    // Where the display redraws lines, a message in between has to go through it.
    if (environment.out_is_terminal && !session.json()) {
      display->Say(message);
    } else {
      session.Say(message);
    }
  });
  v1::WatchJobRequest request;
  request.set_job_id(options.job_id);
  request.set_after_step(options.after_step);
  v1::Job last;
  const absl::Status status =
      session.coordinator().WatchJob(request, stop, [&](const v1::WatchJobResponse& message) {
        last = message.job();
        if (session.json()) {
          session.PrintJsonLine(message);
        } else {
          for (const v1::Event& event : message.events()) {
            if (IsWorthALine(event)) display->Say(EventLine(event));
          }
          display->Show({last}, clock.Read().monotonic);
        }
        // The stream of a final job ends by itself, after its last step records.
        return last.state() != v1::JOB_STATE_PAUSED;
      });
  display->Finish();
  session.coordinator().OnWait([&session](const std::string& message) { session.Say(message); });
  if (absl::IsCancelled(status) && stop->stopped()) {
    session.Say(absl::StrCat("interrupted; ", options.job_id,
                             " goes on; see it with `sinkforge watch ", options.job_id,
                             "`, stop it with `sinkforge cancel ", options.job_id, "`"));
    return kExitInterrupted;
  }
  if (!status.ok()) return status;
  ExplainEnd(session, last);
  return ExitCodeOf(last.state());
}

}  // namespace sinkforge::client
