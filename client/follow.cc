// FollowJob: the watch stream on a progress display.
#include "client/follow.h"

#include <algorithm>
#include <functional>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/job_screen.h"
#include "client/progress.h"

namespace sinkforge::client {
namespace {

constexpr int32_t kHistoryPoints = 400;  // more than a terminal has columns
constexpr int kEventsBefore = 5;         // of those before the watch began

// The progress line shows the first two already, and the command's end says why a job failed.
bool IsWorthALine(const v1::Event& event, const v1::Job& job) {
  const bool is_its_end = event.kind() == v1::EVENT_KIND_ATTEMPT_ENDED &&
                          job.state() == v1::JOB_STATE_FAILED &&
                          absl::StartsWith(job.message(), event.message());
  return event.kind() != v1::EVENT_KIND_SUBMITTED && event.kind() != v1::EVENT_KIND_STATE_CHANGED &&
         !is_its_end;
}

// How a watch is shown.
struct View {
  std::function<void(const v1::WatchJobResponse&)> show;
  std::function<void(const std::string&)> say;
  std::function<void()> finish = [] {};
};

View MakeJsonView(const Session& session) {
  return {
      .show = [&session](const v1::WatchJobResponse& message) { session.PrintJsonLine(message); },
      .say = [&session](const std::string& text) { session.Say(text); }};
}

View MakePlainView(const Session& session) {
  std::shared_ptr<ProgressDisplay> display = MakePlainDisplay(&session.out());
  return {.show =
              [display](const v1::WatchJobResponse& message) {
                for (const v1::Event& event : message.events()) {
                  if (IsWorthALine(event, message.job())) display->Say(EventLine(event));
                }
                display->Show({message.job()}, base::RealClock().Read().monotonic);
              },
          .say = [&session](const std::string& text) { session.Say(text); }};
}

// What happened before is worth having, but the watch does not depend on it: errors come again, and
// are then shown, where the stream is opened.
View MakeScreenView(Session& session, v1::WatchJobRequest* request) {
  const Environment& environment = session.environment();
  auto screen =
      std::make_shared<JobScreen>(environment.out, environment.screen_size, session.out_style());
  const auto job = session.coordinator().GetJob(request->job_id());
  if (job.ok()) {
    const int64_t step = job->progress().step();
    // The last step's record again: it has the importance of every head.
    request->set_after_step(std::max<int64_t>(0, step - 1));
    v1::QueryMetricsRequest query;
    query.set_job_id(request->job_id());
    query.add_series("loss");
    query.add_series("imbalance");
    query.set_max_points(kHistoryPoints);
    query.set_last_step(std::max<int64_t>(1, step - 1));
    const auto history = session.coordinator().QueryMetrics(query);
    if (history.ok() && step > 1) screen->SetHistory(*history);
    const auto events = session.coordinator().ListEvents(request->job_id());
    v1::WatchJobResponse before;
    *before.mutable_job() = *job;
    const int count = events.ok() ? events->events_size() : 0;
    for (int i = std::max(0, count - kEventsBefore); i < count; ++i) {
      *before.add_events() = events->events(i);
    }
    screen->Show(before);
  }
  return {.show = [screen](const v1::WatchJobResponse& message) { screen->Show(message); },
          // Where lines are redrawn, a message in between has to go through them.
          .say = [screen](const std::string& text) { screen->Say(text); },
          .finish = [screen] { screen->Finish(); }};
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
  v1::WatchJobRequest request;
  request.set_job_id(options.job_id);
  request.set_after_step(options.after_step);
  const View view = session.json()                          ? MakeJsonView(session)
                    : session.environment().out_is_terminal ? MakeScreenView(session, &request)
                                                            : MakePlainView(session);
  session.coordinator().OnWait(view.say);
  v1::Job last;
  const absl::Status status =
      session.coordinator().WatchJob(request, stop, [&](const v1::WatchJobResponse& message) {
        last = message.job();
        view.show(message);
        // The stream of a final job ends by itself, after its last step records.
        return session.out().good() && last.state() != v1::JOB_STATE_PAUSED;
      });
  view.finish();
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
