// Whether a daemon serves: what containers and load balancers ask.
#include "client/health.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"
#include "client/json_text.h"
#include "client/printable.h"
#include "client/session.h"

namespace sinkforge::client {
namespace {

constexpr std::chrono::seconds kTimeout(2);  // what container engines allow a check, and less

// What a coordinator that does not serve says of itself; empty where it says nothing.
std::string ReasonOf(CoordinatorOptions options) {
  options.retry_for = kTimeout;
  Coordinator coordinator(std::move(options));
  const auto workers = coordinator.ListWorkers();
  if (!coordinator.store_failure().empty()) {
    return absl::StrCat("the coordinator's store cannot be written: ", coordinator.store_failure());
  }
  return absl::IsUnavailable(workers.status()) ? std::string(workers.status().message()) : "";
}

absl::StatusOr<int> Health(Session& session, const std::string& given) {
  const CoordinatorOptions target =
      given.empty() ? session.coordinator().options() : session.ConnectionTo(given, "ADDRESS");
  if (!target.tls.ok()) return AsUsageError(target.tls.status());
  const std::string& address = target.address;
  const absl::Status status = CheckHealth(address, kTimeout, target.tls->get());
  const bool answers = status.ok() || absl::IsFailedPrecondition(status);
  if (!answers) return UnreachableError(std::string(status.message()));
  const std::string reason = status.ok() ? "" : ReasonOf(target);
  if (session.json()) {
    nlohmann::ordered_json json = {{"address", address},
                                   {"status", status.ok() ? "serving" : "not serving"}};
    if (!reason.empty()) json["reason"] = reason;
    session.out() << JsonText(json);
  } else {
    session.out() << address << (status.ok() ? " is serving" : " is not serving")
                  << (reason.empty() ? "" : ": " + Printable(reason)) << "\n";
  }
  return status.ok() ? kExitOk : kExitError;
}

}  // namespace

Command HealthCommand() {
  auto address = std::make_shared<std::string>();
  Command command;
  command.name = "health";
  command.summary =
      "Ask a coordinator or a worker whether it serves; exit code 1: it says no, 4: no answer";
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
