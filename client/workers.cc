// sinkforge workers: the machines that train, their slots and what these do.
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/session.h"
#include "client/table.h"
#include "proto/jobspec/job_file.h"

namespace sinkforge::client {
namespace {

std::string StateText(const v1::Worker& worker) {
  std::string text = WorkerStateName(worker.state());
  if (!worker.drain().note().empty()) {
    absl::StrAppend(&text, " (", OneLine(worker.drain().note()), ")");
  }
  if (worker.only_copies() > 0) {
    absl::StrAppend(&text, ": ", worker.only_copies(),
                    worker.only_copies() == 1 ? " checkpoint is" : " checkpoints are",
                    " on no worker that stays");
  }
  return text;
}

absl::StatusOr<int> Workers(Session& session) {
  const auto list = session.coordinator().ListWorkers();
  if (!list.ok()) return list.status();
  session.WarnOfStore();
  if (session.json()) {
    session.PrintJson(*list);
    return kExitOk;
  }
  const auto now = base::RealClock().Read().wall;
  Table table({{"WORKER"},
               {"STATE"},
               {"SLOTS"},
               {"JOBS"},
               {"DISK FREE", Table::Align::kRight},
               {"SEEN", Table::Align::kRight},
               {"ADDRESS"},
               {"METRICS"},
               {"PROCESSOR"}});
  for (const v1::Worker& worker : list->workers()) {
    std::set<std::string> devices;
    for (const v1::Slot& slot : worker.slots()) {
      devices.insert(jobspec::ShortEnumName(*v1::Device_descriptor(), slot.device()));
    }
    std::set<std::string> jobs;
    for (const v1::SlotUse& use : worker.used()) jobs.insert(use.job_id());
    table.AddRow({worker.worker(), StateText(worker),
                  absl::StrCat(worker.used_size(), "/", worker.slots_size(), " ",
                               absl::StrJoin(devices, "+"), " used"),
                  jobs.empty() ? "-" : absl::StrJoin(jobs, ", "),
                  FormatBytes(worker.disk_free_bytes()),
                  absl::StrCat(FormatDuration(now - base::FromProto(worker.last_seen())), " ago"),
                  worker.address(), worker.metrics_address(), worker.processor()});
  }
  const Environment& environment = session.environment();
  session.out() << table.Render(environment.out_is_terminal ? environment.screen_size().width : 0)
                << std::flush;
  if (list->workers().empty()) {
    session.Say(absl::StrCat("no worker yet; start one with `sinkforge-worker --coordinator ",
                             session.coordinator().address(), "`"));
  }
  return kExitOk;
}

}  // namespace

Command WorkersCommand() {
  Command command;
  command.name = "workers";
  command.summary = "List workers, their slots and what runs there";
  command.examples = "  sinkforge workers\n  sinkforge workers -o json | jq '.workers[].slots'";
  command.run = [](Session& session) { return Workers(session); };
  return command;
}

}  // namespace sinkforge::client
