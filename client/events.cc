// sinkforge events: what happened to a job, oldest first.
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/session.h"
#include "client/table.h"

namespace sinkforge::client {
namespace {

absl::StatusOr<int> Events(Session& session, const std::string& job_id) {
  const auto list = session.coordinator().ListEvents(job_id);
  if (!list.ok()) return list.status();
  if (session.json()) {
    session.PrintJson(*list);
    return kExitOk;
  }
  Table table({{"TIME"},
               {"EVENT"},
               {"REASON"},
               {"ATTEMPT", Table::Align::kRight},
               {"STEP", Table::Align::kRight},
               {"MESSAGE"}});
  for (const v1::Event& event : list->events()) {
    table.AddRow({FormatTime(event.time()), EventKindName(event.kind()),
                  event.reason() == v1::REASON_UNSPECIFIED ? "-" : ReasonName(event.reason()),
                  absl::StrCat(event.attempt()), absl::StrCat(event.step()), event.message()});
  }
  // Messages are what one looks for here: they are never cut.
  session.out() << table.Render(0);
  return kExitOk;
}

}  // namespace

Command EventsCommand() {
  auto job_id = std::make_shared<std::string>();
  Command command;
  command.name = "events";
  command.summary = "Print what happened to a job, with reasons";
  command.examples = "  sinkforge events d4-gated-1";
  command.arguments = {{.name = "JOB", .help = "The job's id", .target = job_id.get()}};
  command.run = [job_id](Session& session) { return Events(session, *job_id); };
  return command;
}

}  // namespace sinkforge::client
