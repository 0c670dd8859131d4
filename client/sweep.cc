// sinkforge sweep: one job for every point of a grid, and a table of what became of them.
#include <google/protobuf/util/message_differencer.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/ids.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/follow.h"
#include "client/job_input.h"
#include "client/json_text.h"
#include "client/progress.h"
#include "client/session.h"
#include "client/sweep_grid.h"
#include "client/sweep_result.h"
#include "client/sweep_seeds.h"
#include "proto/jobspec/job_file.h"
#include "proto/jobspec/validate.h"

namespace sinkforge::client {
namespace {

constexpr std::chrono::milliseconds kPollInterval(400);  // the display lags by less than a second

struct SweepOptions {
  std::string file;
  std::vector<std::string> grid;
  std::vector<std::string> overrides;
  std::string seeds;
  std::optional<std::string> name;
  int64_t max_running = 0;
  bool watch = false;
  bool dry_run = false;
};

int PrintResult(Session& session, const std::string& sweep, const std::vector<SweepRow>& rows) {
  if (session.json()) {
    session.out() << SweepJson(sweep, rows) << std::flush;
    return kExitOk;
  }
  session.out() << SweepTable(rows).Render(0);
  const std::vector<SeedsRow> over_seeds = OverSeeds(rows);
  if (!over_seeds.empty()) session.out() << "\n" << SeedsTable(over_seeds).Render(0);
  session.out() << std::flush;
  session.Say(
      absl::StrCat("loss, imbalance and importance are means over the last ", kTailSteps, " steps",
                   over_seeds.empty() ? "" : ", ± is the sample standard deviation over seeds",
                   "; again with `sinkforge sweep show ", sweep, "`"));
  return kExitOk;
}

absl::Status CheckSweepName(const std::string& name) {
  const std::string problem = jobspec::NameProblem(name);
  if (problem.empty()) return absl::OkStatus();
  return UsageError(absl::StrCat("the sweep's name `", name, "` ", problem));
}

// A name of the job's and of this moment; the job's is cut where there would be no room.
std::string MakeSweepName(const std::string& job_name) {
  constexpr int kRandomLength = 6;
  return SweepJobName(job_name.substr(0, jobspec::kNameLengthMax - kRandomLength - 1),
                      base::RandomId().substr(0, kRandomLength));
}

absl::StatusOr<int> ShowSweep(Session& session, const std::string& sweep) {
  const auto rows = ReadSweep(session.coordinator(), sweep);
  if (!rows.ok()) return rows.status();
  return PrintResult(session, sweep, *rows);
}

// INVALID_ARGUMENT: the same job under another spelling, such as 0.02 and 2e-2.
absl::Status CheckDiffers(const v1::JobSpec& spec, const std::vector<v1::JobSpec>& others,
                          const std::string& suffix) {
  for (v1::JobSpec other : others) {
    const std::string name = other.name();
    other.set_name(spec.name());
    if (!google::protobuf::util::MessageDifferencer::Equals(spec, other)) continue;
    return UsageError(absl::StrCat("--grid: the job of ", suffix, " is the same as ", name,
                                   "; give each job once"));
  }
  return absl::OkStatus();
}

// Without the settings of the head-balance loss where there is none: they change nothing.
v1::JobSpec WithoutUnused(v1::JobSpec spec) {
  if (spec.head_balance().loss() == v1::BALANCE_LOSS_NONE) {
    spec.mutable_head_balance()->clear_coefficient();
    spec.mutable_head_balance()->clear_shared_heads();
  }
  spec.clear_name();
  return spec;
}

// The name of the job among `others` that would train the same; empty where there is none.
std::string TwinOf(const v1::JobSpec& spec, const std::vector<v1::JobSpec>& others) {
  const v1::JobSpec effective = WithoutUnused(spec);
  for (const v1::JobSpec& other : others) {
    if (google::protobuf::util::MessageDifferencer::Equals(effective, WithoutUnused(other))) {
      return other.name();
    }
  }
  return "";
}

// INVALID_ARGUMENT: --set gives a key that the grid gives as well, and one would be passed over.
absl::Status CheckOverrides(const std::vector<std::string>& overrides, const SweepPoint& point) {
  for (const std::string& assignment : point.assignments) {
    const std::string key = assignment.substr(0, assignment.find('='));
    for (const std::string& override : overrides) {
      if (!absl::StartsWith(override, key + "=")) continue;
      return UsageError(absl::StrCat(key, " is there twice: in --set, and as an axis of the grid; ",
                                     "give it in one of them"));
    }
  }
  return absl::OkStatus();
}

// Every job's spec, checked, before the first one is submitted; each that would train the same as
// one before is left out, which is said.
absl::StatusOr<std::vector<v1::JobSpec>> MakeSpecs(const Session& session, const JobInput& input,
                                                   const SweepOptions& options) {
  const auto points = ExpandGrid(options.grid, options.seeds);
  if (!points.ok()) return points.status();
  const absl::Status distinct = CheckOverrides(options.overrides, points->front());
  if (!distinct.ok()) return distinct;
  std::vector<v1::JobSpec> specs;
  for (const SweepPoint& point : *points) {
    std::vector<std::string> overrides = options.overrides;
    overrides.insert(overrides.end(), point.assignments.begin(), point.assignments.end());
    auto spec = ResolveJob(input, overrides);
    if (!spec.ok()) return spec.status();
    const absl::Status differs = CheckDiffers(*spec, specs, point.suffix);
    if (!differs.ok()) return differs;
    if (const std::string twin = TwinOf(*spec, specs); !twin.empty()) {
      session.Say(absl::StrCat("the job of ", point.suffix, " would train the same as ", twin,
                               ", because head_balance.loss: none has no coefficient: it runs "
                               "once"));
      continue;
    }
    spec->set_name(SweepJobName(spec->name(), point.suffix));
    specs.push_back(*std::move(spec));
  }
  return specs;
}

// Progress of all jobs until each is settled. CANCELLED: Ctrl-C.
absl::StatusOr<std::vector<v1::Job>> FollowSweep(Session& session, StopSignal* stop,
                                                 const std::string& sweep) {
  const base::RealClock clock;
  const Environment& environment = session.environment();
  auto display =
      environment.out_is_terminal
          ? MakeTerminalDisplay(environment.out, environment.screen_size, session.out_style())
          : MakePlainDisplay(environment.out);
  v1::ListJobsRequest request;
  request.set_sweep(sweep);
  while (true) {
    const auto list = session.coordinator().ListJobs(request, kSweepJobsMax);
    if (!list.ok()) return list.status();
    const std::vector<v1::Job> jobs(list->jobs().rbegin(), list->jobs().rend());
    if (!session.json()) display->Show(jobs, clock.Read().monotonic);
    bool settled = true;
    for (const v1::Job& job : jobs) settled = settled && IsSettled(job.state());
    if (settled || stop->WaitFor(kPollInterval)) {
      display->Finish();
      if (!settled) return absl::CancelledError("interrupted");
      return jobs;
    }
  }
}

absl::StatusOr<int> WatchSweep(Session& session, StopSignal* stop, const std::string& sweep) {
  const auto jobs = FollowSweep(session, stop, sweep);
  if (absl::IsCancelled(jobs.status())) {
    session.Say(absl::StrCat("interrupted; the jobs go on; see them with `sinkforge list --sweep ",
                             sweep, "`"));
    return kExitInterrupted;
  }
  if (!jobs.ok()) return jobs.status();
  int worst = kExitOk;
  for (const v1::Job& job : *jobs) {
    ExplainEnd(session, job);
    if (worst == kExitOk) worst = ExitCodeOf(job.state());
  }
  const auto shown = ShowSweep(session, sweep);
  if (!shown.ok()) return shown.status();
  return worst;
}

int PrintDryRun(const Session& session, const std::vector<v1::JobSpec>& specs) {
  if (session.json()) {
    nlohmann::ordered_json json = {{"jobs", nlohmann::ordered_json::array()}};
    for (const v1::JobSpec& spec : specs) {
      json["jobs"].push_back({{"name", spec.name()}, {"job_file", jobspec::FormatJobFile(spec)}});
    }
    session.out() << JsonText(json);
    return kExitOk;
  }
  for (const v1::JobSpec& spec : specs) session.out() << spec.name() << "\n";
  session.Say(absl::StrCat("dry run: ", specs.size(), " valid jobs; nothing was submitted"));
  return kExitOk;
}

absl::StatusOr<int> Sweep(Session& session, const SweepOptions& options) {
  if (options.max_running < 0 || options.max_running > kSweepJobsMax) {
    return UsageError(absl::StrCat("--max-running: is ", options.max_running, "; give 1 to ",
                                   kSweepJobsMax, ", or 0 for no limit"));
  }
  if (options.name.has_value()) {
    const absl::Status valid = CheckSweepName(*options.name);
    if (!valid.ok()) return valid;
  }
  const auto input = ReadJobInput(options.file);
  if (!input.ok()) return input.status();
  const auto specs = MakeSpecs(session, *input, options);
  if (!specs.ok()) return specs.status();
  if (options.dry_run) return PrintDryRun(session, *specs);
  // Before the channel, and so that Ctrl-C while submitting is answered after the last one.
  StopSignal stop(StopSignal::Source::kSignals);
  const std::string sweep =
      options.name.has_value() ? *options.name : MakeSweepName(specs->front().name());
  v1::ListJobsRequest same_name;
  same_name.set_sweep(sweep);
  const auto existing = session.coordinator().ListJobs(same_name, 1);
  if (!existing.ok()) return existing.status();
  if (!existing->jobs().empty()) {
    return absl::AlreadyExistsError(
        absl::StrCat("sweep ", sweep, ": exists already; see it with `sinkforge sweep show ", sweep,
                     "`, or choose another --name"));
  }
  for (const v1::JobSpec& spec : *specs) {
    v1::SubmitJobRequest request;
    *request.mutable_spec() = spec;
    request.set_sweep(sweep);
    request.set_sweep_running_max(static_cast<int32_t>(options.max_running));
    request.set_request_id(base::RandomId());
    request.set_trace_id(session.trace_id());
    const auto job = session.coordinator().SubmitJob(request);
    if (!job.ok()) return ExplainViolations(*input, options.overrides, job.status());
    if (!options.watch && !session.json()) session.out() << job->job_id() << std::endl;
  }
  session.Say(absl::StrCat("sweep ", sweep, ": ", specs->size(), " jobs submitted"));
  if (options.watch) return WatchSweep(session, &stop, sweep);
  if (session.json()) return ShowSweep(session, sweep);
  session.Say(absl::StrCat("results with `sinkforge sweep show ", sweep, "`"));
  return kExitOk;
}

Command ShowNode() {
  auto name = std::make_shared<std::string>();
  Command command;
  command.name = "show";
  command.summary = "Print the table of a sweep's results, of the metric history";
  command.examples =
      "  sinkforge sweep show quickstart -o json\n"
      "Where settings have several seeds, a second table has their means over the succeeded jobs;\n"
      "± is the sample standard deviation (the divisor is one less than the jobs).";
  command.arguments = {{.name = "NAME",
                        .help = "The sweep's name",
                        .target = name.get(),
                        .empty = EmptyText::kAllowed}};
  command.run = [name](Session& session) -> absl::StatusOr<int> {
    const absl::Status valid = CheckSweepName(*name);
    if (!valid.ok()) return valid;
    return ShowSweep(session, *name);
  };
  return command;
}

}  // namespace

Command SweepCommand() {
  auto options = std::make_shared<SweepOptions>();
  Command command;
  command.name = "sweep";
  command.summary = "Submit a job for every point of a grid; `sweep show NAME` prints the results";
  command.examples =
      "  sinkforge sweep job.yaml --grid head_balance.loss=none,cv --name balance --watch\n"
      "  sinkforge sweep job.yaml --grid model.attention=vanilla,sink,gated --seeds 1,2,3\n"
      "  sinkforge sweep job.yaml --seeds 1,2,3,4,5,6 --max-running 2\n"
      "  sinkforge sweep show balance";
  command.arguments = {{.name = "JOB.yaml",
                        .help = "The job file that all jobs share",
                        .target = &options->file,
                        .completion = Argument::Completion::kFiles}};
  command.options = {
      {"--grid", "KEY=V1,V2", "An axis of the grid; repeatable", &options->grid},
      {"--seeds", "S1,S2", "An axis of seeds (train.seed)", &options->seeds},
      {"--set", "KEY=VALUE", "Set a value in all jobs; repeatable", &options->overrides},
      {.names = "--name",
       .value = "NAME",
       .help = "The sweep's name (default: made from the job's)",
       .target = &options->name,
       .empty = EmptyText::kAllowed},
      {"--max-running", "N", "Jobs that run at a time (0: as many as there is room for)",
       &options->max_running},
      {"-w,--watch", "", "Show progress until all have ended, then the results", &options->watch},
      {"--dry-run", "", "Check all jobs and print their names", &options->dry_run}};
  command.commands = {ShowNode()};
  command.run = [options](Session& session) { return Sweep(session, *options); };
  return command;
}

}  // namespace sinkforge::client
