// sinkforge drain, undrain: takes work away from a worker, and lets it have some again.
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/session.h"

namespace sinkforge::client {
namespace {

int PrintWorker(const Session& session, const v1::Worker& worker) {
  if (session.json()) {
    session.PrintJsonLine(worker);
  } else {
    session.out() << worker.worker() << " " << WorkerStateName(worker.state()) << std::endl;
  }
  return kExitOk;
}

}  // namespace

Command DrainCommand() {
  auto workers = std::make_shared<std::vector<std::string>>();
  auto note = std::make_shared<std::string>();
  Command command;
  command.name = "drain";
  command.summary = "Take workers out of use: their jobs checkpoint and go on elsewhere";
  command.examples =
      "  sinkforge drain gpu-box-2 --note 'new disk'   # `sinkforge workers` says when it can go\n"
      "  sinkforge undrain gpu-box-2";
  command.arguments = {{.name = "WORKER", .help = "Worker names", .target = workers.get()}};
  command.options = {
      {"--note", "TEXT", "Why, shown by `sinkforge workers`", note.get()},
  };
  command.run = [workers, note](Session& session) -> absl::StatusOr<int> {
    for (const std::string& name : *workers) {
      const auto worker = session.coordinator().DrainWorker(name, *note);
      if (!worker.ok()) return worker.status();
      PrintWorker(session, *worker);
    }
    return kExitOk;
  };
  return command;
}

Command UndrainCommand() {
  auto workers = std::make_shared<std::vector<std::string>>();
  Command command;
  command.name = "undrain";
  command.summary = "Put drained workers into use again";
  command.examples = "  sinkforge undrain gpu-box-2";
  command.arguments = {{.name = "WORKER", .help = "Worker names", .target = workers.get()}};
  command.run = [workers](Session& session) -> absl::StatusOr<int> {
    for (const std::string& name : *workers) {
      const auto worker = session.coordinator().UndrainWorker(name);
      if (!worker.ok()) return worker.status();
      PrintWorker(session, *worker);
    }
    return kExitOk;
  };
  return command;
}

}  // namespace sinkforge::client
