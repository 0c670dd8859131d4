// Whether a daemon serves: what containers and load balancers ask.
#include "client/health.h"

#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"
#include "client/session.h"

namespace sinkforge::client {
namespace {

constexpr std::chrono::seconds kTimeout(2);  // what container engines allow a check, and less

absl::StatusOr<int> Health(Session& session, const std::string& given) {
  const std::string address = given.empty() ? session.coordinator().address() : given;
  const absl::Status status = CheckHealth(address, kTimeout);
  if (!status.ok()) return UnreachableError(std::string(status.message()));
  if (session.json()) {
    const nlohmann::ordered_json json = {{"address", address}, {"status", "serving"}};
    session.out() << json.dump(2) << "\n";
  } else {
    session.out() << address << " is serving\n";
  }
  return kExitOk;
}

}  // namespace

Command HealthCommand() {
  auto address = std::make_shared<std::string>();
  Command command;
  command.name = "health";
  command.summary = "Ask a coordinator or a worker whether it serves; exit code 4: it does not";
  command.examples =
      "  sinkforge health                    # the coordinator\n"
      "  sinkforge health 10.0.0.2:7071      # a worker";
  command.arguments = {{.name = "ADDRESS",
                        .help = "HOST:PORT of the daemon (default: the coordinator's)",
                        .target = address.get(),
                        .presence = Argument::Presence::kOptional}};
  command.run = [address](Session& session) { return Health(session, *address); };
  return command;
}

}  // namespace sinkforge::client
