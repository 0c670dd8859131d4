// JobActionCommand; see job_action.h.
#include "client/job_action.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"
#include "client/format.h"

namespace sinkforge::client {

void PrintActedJob(const Session& session, const v1::Job& job) {
  if (session.json()) {
    session.PrintJsonLine(job);
    return;
  }
  const char* pending = job.cancel_requested()  ? ", cancel requested"
                        : job.pause_requested() ? ", pause requested"
                                                : "";
  session.out() << job.job_id() << " " << StateName(job.state())
                << (IsSettled(job.state()) ? "" : pending) << std::endl;
}

Command JobActionCommand(
    const std::string& name, const std::string& summary, const std::string& examples,
    std::function<absl::Status(Session& session, const std::string& job_id)> act) {
  auto jobs = std::make_shared<std::vector<std::string>>();
  Command command;
  command.name = name;
  command.summary = summary;
  command.examples = examples;
  command.arguments = {{.name = "JOB", .help = "Job ids", .target = jobs.get()}};
  command.run = [jobs, act = std::move(act)](Session& session) -> absl::StatusOr<int> {
    absl::Status first;
    for (const std::string& id : *jobs) {
      const absl::Status status = act(session, id);
      if (status.ok()) continue;
      if (first.ok()) {
        first = status;
      } else {
        session.Say(std::string(status.message()));
      }
      // Nobody there: the others would only wait as long again.
      if (ExitCodeOf(status) == kExitUnreachable) break;
    }
    if (!first.ok()) return first;
    return kExitOk;
  };
  return command;
}

}  // namespace sinkforge::client
