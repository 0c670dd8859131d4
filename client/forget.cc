// sinkforge forget: gives up workers that are gone for good, with all that they alone had.
#include <memory>
#include <nlohmann/json.hpp>

#include "client/commands.h"
#include "client/exit_code.h"
#include "client/session.h"

namespace sinkforge::client {
namespace {

void PrintForgotten(const Session& session, const std::string& worker, int64_t lost) {
  if (session.json()) {
    const nlohmann::ordered_json line = {{"worker", worker}, {"checkpoints_lost", lost}};
    session.out() << line.dump() << std::endl;
  } else {
    session.out() << worker << " forgotten; checkpoints lost: " << lost << std::endl;
  }
}

}  // namespace

Command ForgetCommand() {
  auto workers = std::make_shared<std::vector<std::string>>();
  Command command;
  command.name = "forget";
  command.summary =
      "Give up workers that never come back: jobs that wait for them go on from what others have";
  command.examples =
      "  sinkforge forget gpu-box-2       # its machine is gone: checkpoints that only it had are "
      "lost\n"
      "  sinkforge forget rack-1 rack-2   # whatever is there is refused: stop it, or drain it";
  command.arguments = {{.name = "WORKER", .help = "Worker names", .target = workers.get()}};
  command.run = [workers](Session& session) -> absl::StatusOr<int> {
    for (const std::string& name : *workers) {
      const auto forgotten = session.coordinator().ForgetWorker(name);
      if (!forgotten.ok()) return forgotten.status();
      PrintForgotten(session, name, forgotten->checkpoints_lost());
    }
    return kExitOk;
  };
  return command;
}

}  // namespace sinkforge::client
