// sinkforge version.
#include <nlohmann/json.hpp>

#include "client/commands.h"
#include "client/exit_code.h"
#include "client/session.h"

namespace sinkforge::client {

Command VersionCommand() {
  Command command;
  command.name = "version";
  command.summary = "Print the version";
  command.examples = "  sinkforge version -o json";
  command.run = [](Session& session) -> absl::StatusOr<int> {
    if (session.json()) {
      const nlohmann::ordered_json json = {{"version", SINKFORGE_VERSION},
                                           {"protocol", "sinkforge.v1"}};
      session.out() << json.dump(2) << "\n";
    } else {
      session.out() << "sinkforge " << SINKFORGE_VERSION << " (protocol sinkforge.v1)\n";
    }
    return kExitOk;
  };
  return command;
}

}  // namespace sinkforge::client
