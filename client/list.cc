// sinkforge list: jobs, newest first.
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/json_text.h"
#include "client/proto_json.h"
#include "client/session.h"
#include "client/table.h"

namespace sinkforge::client {
namespace {

struct ListOptions {
  std::vector<std::string> states;
  std::string job_namespace;
  std::string sweep;
  int64_t limit = 50;
};

const std::vector<std::string>& StateChoices() {
  static const std::vector<std::string> choices = {"queued",    "starting", "running",  "paused",
                                                   "succeeded", "failed",   "cancelled"};
  return choices;
}

v1::JobState StateOf(const std::string& name) {
  const auto& choices = StateChoices();
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i] == name) return static_cast<v1::JobState>(i + 1);
  }
  return v1::JOB_STATE_UNSPECIFIED;
}

std::string Number(const v1::Job& job, double value) {
  return job.progress().step() > 0 ? FormatNumber(value) : "-";
}

Table MakeTable(const v1::ListJobsResponse& list, std::chrono::system_clock::time_point now) {
  Table table({{"JOB"},
               {"STATE"},
               {"STEP", Table::Align::kRight},
               {"LOSS", Table::Align::kRight},
               {"BITS/BYTE", Table::Align::kRight},
               {"IMBALANCE", Table::Align::kRight},
               {"AGE", Table::Align::kRight},
               {"WHY"}});
  for (const v1::Job& job : list.jobs()) {
    const v1::JobProgress& progress = job.progress();
    const bool validated =
        progress.validation_step() > 0 && progress.validation_bits_per_byte() > 0;
    table.AddRow({job.job_id(), StateName(job.state()),
                  absl::StrCat(progress.step(), "/", job.spec().train().steps()),
                  Number(job, progress.loss()),
                  validated ? FormatNumber(progress.validation_bits_per_byte()) : "-",
                  Number(job, progress.imbalance()),
                  FormatDuration(now - base::FromProto(job.create_time())),
                  job.message().empty() ? ReasonName(job.reason()) : job.message()});
  }
  return table;
}

// Without the token of the next page, of which only this program could make use.
std::string Json(const v1::ListJobsResponse& list) {
  nlohmann::ordered_json jobs = nlohmann::ordered_json::array();
  for (const v1::Job& job : list.jobs()) {
    jobs.push_back(nlohmann::ordered_json::parse(ProtoJson(job, JsonLayout::kLine)));
  }
  return JsonText({{"jobs", std::move(jobs)}});
}

absl::StatusOr<int> List(Session& session, const ListOptions& options) {
  if (options.limit < 1) return UsageError("--limit must be at least 1");
  v1::ListJobsRequest request;
  for (const std::string& state : options.states) request.add_states(StateOf(state));
  request.set_namespace_(options.job_namespace);
  request.set_sweep(options.sweep);
  const auto list = session.coordinator().ListJobs(request, options.limit);
  if (!list.ok()) return list.status();
  session.WarnOfStore();
  if (session.json()) {
    session.out() << Json(*list);
  } else {
    const Environment& environment = session.environment();
    session.out() << MakeTable(*list, base::RealClock().Read().wall)
                         .Render(environment.out_is_terminal ? environment.screen_size().width : 0);
    if (list->jobs().empty()) {
      session.Say("no such jobs; submit one with `sinkforge submit JOB.yaml`");
    }
  }
  if (!list->next_page_token().empty()) {
    session.Say(absl::StrCat("only the newest ", list->jobs_size(), "; more with --limit N"));
  }
  return kExitOk;
}

}  // namespace

Command ListCommand() {
  auto options = std::make_shared<ListOptions>();
  Command command;
  command.name = "list";
  command.summary = "List jobs, newest first";
  command.examples =
      "  sinkforge list\n"
      "  sinkforge list --state running --state queued\n"
      "  sinkforge list -o json | jq -r '.jobs[].job_id'";
  command.options = {
      {"--state", "STATE",
       absl::StrCat("Only jobs in this state; repeatable: ", absl::StrJoin(StateChoices(), ", ")),
       &options->states, StateChoices()},
      {"--namespace", "NAME", "Only jobs of this namespace", &options->job_namespace},
      {"--sweep", "NAME", "Only jobs of this sweep", &options->sweep},
      {"--limit", "N", "At most N jobs (default: 50)", &options->limit}};
  command.run = [options](Session& session) { return List(session, *options); };
  return command;
}

}  // namespace sinkforge::client
