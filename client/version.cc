// sinkforge version.
#include <nlohmann/json.hpp>

#include "base/build_info.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/json_text.h"
#include "client/session.h"

namespace sinkforge::client {

Command VersionCommand() {
  Command command;
  command.name = "version";
  command.summary = "Print the version";
  command.examples = "  sinkforge version -o json";
  command.run = [](Session& session) -> absl::StatusOr<int> {
    if (session.json()) {
      const base::BuildInfo info = base::ReadBuildInfo();
      session.out() << JsonText({{"version", info.version},
                                 {"protocol", info.protocol},
                                 {"build", info.build_type},
                                 {"compiler", info.compiler}});
    } else {
      session.out() << base::VersionText("sinkforge") << "\n";
    }
    return kExitOk;
  };
  return command;
}

}  // namespace sinkforge::client
