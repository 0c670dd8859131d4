// Session: where the coordinator is, and how results are printed.
#include "client/session.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "client/local_instance.h"
#include "client/printable.h"
#include "client/proto_json.h"

namespace sinkforge::client {
namespace {

constexpr char kDefaultCoordinator[] = "127.0.0.1:7070";

struct Found {
  std::string address;
  std::string source;
  bool is_local = false;  // what `local up` starts does not encrypt
};

// --coordinator, then the variable, then the instance that `local up` started, then the default.
Found FindCoordinator(const std::string& flag, const std::string& variable,
                      const std::string& state_folder) {
  if (!flag.empty()) return {flag, "--coordinator"};
  if (!variable.empty()) return {variable, "SINKFORGE_COORDINATOR"};
  if (state_folder.empty()) return {kDefaultCoordinator, "the default: HOME is not set"};
  const auto instance = ReadLocalInstance(state_folder);
  if (instance.ok() && !instance->coordinator.address.empty()) {
    return {instance->coordinator.address, LocalInstanceFile(state_folder), true};
  }
  return {kDefaultCoordinator, absl::StrCat("the default: nothing is up in ", state_folder)};
}

// INVALID_ARGUMENT: not HOST:PORT, nor a socket's file.
absl::Status CheckAddress(const std::string& address, const std::string& source) {
  constexpr int kPortMax = 65535;
  if (absl::StartsWith(address, "unix:")) return absl::OkStatus();
  const size_t colon = address.rfind(':');
  int port = 0;
  const bool has_port = colon != std::string::npos &&
                        absl::SimpleAtoi(address.substr(colon + 1), &port) && port >= 1 &&
                        port <= kPortMax;
  const bool is_url = absl::StrContains(address, "//");
  if (has_port && !is_url && address.front() != ':') return absl::OkStatus();
  const char* wrong = colon == std::string::npos ? "the port is missing" : "no HOST:PORT";
  return absl::InvalidArgumentError(absl::StrCat("address `", address, "` (", source, "): ", wrong,
                                                 "; give one such as 127.0.0.1:7070 or "
                                                 "[::1]:7070"));
}

}  // namespace

Session::Session(Environment environment, GlobalOptions options)
    : environment_(std::move(environment)), options_(std::move(options)) {}
Session::~Session() = default;

Style Session::out_style() const {
  return Style(ChooseColour(environment_.out_is_terminal, environment_.variable("NO_COLOR"),
                            environment_.variable("TERM")));
}

std::string Session::trace_id() const {
  return base::TraceIdOf(environment_.variable("TRACEPARENT"));
}

std::string Session::default_state_folder() const {
  const std::string state_home = environment_.variable("XDG_STATE_HOME");
  // The base directory specification has relative paths ignored.
  if (!state_home.empty() && state_home.front() == '/') {
    return absl::StrCat(state_home, "/sinkforge/local");
  }
  const std::string home = environment_.variable("HOME");
  return home.empty() ? "" : absl::StrCat(home, "/.local/state/sinkforge/local");
}

CoordinatorOptions Session::ConnectionTo(std::string address, std::string source) const {
  const auto choose = [this](const std::string& flag, const char* variable) {
    return flag.empty() ? environment_.variable(variable) : flag;
  };
  const base::TlsFiles& given = options_.tls;
  CoordinatorOptions options;
  const absl::Status valid = CheckAddress(address, source);
  options.address = std::move(address);
  options.address_source = std::move(source);
  if (!valid.ok()) {
    options.tls = valid;  // what every call gives
    return options;
  }
  options.tls = base::Tls::Load({.certificate = choose(given.certificate, "SINKFORGE_TLS_CERT"),
                                 .key = choose(given.key, "SINKFORGE_TLS_KEY"),
                                 .authority = choose(given.authority, "SINKFORGE_TLS_CA")});
  return options;
}

Coordinator& Session::coordinator() {
  if (coordinator_ == nullptr) {
    const Found found =
        FindCoordinator(options_.coordinator, environment_.variable("SINKFORGE_COORDINATOR"),
                        default_state_folder());
    CoordinatorOptions options = ConnectionTo(found.address, found.source);
    if (found.is_local) options.tls = nullptr;
    if (options_.retry_seconds.has_value()) {
      options.retry_for = std::chrono::duration_cast<std::chrono::nanoseconds>(
          std::chrono::duration<double>(*options_.retry_seconds));
    }
    coordinator_ = std::make_unique<Coordinator>(std::move(options));
    coordinator_->OnWait([this](const std::string& message) { Say(message); });
  }
  return *coordinator_;
}

void Session::PrintJson(const google::protobuf::Message& message) const {
  out() << ProtoJson(message, JsonLayout::kPeople) << std::flush;
}

void Session::PrintJsonLine(const google::protobuf::Message& message) const {
  out() << ProtoJson(message, JsonLayout::kLine) << std::endl;
}

void Session::WarnOfStore() {
  const std::string& failure = coordinator().store_failure();
  if (failure.empty()) return;
  Say(
      absl::StrCat("warning: this is what was stored last, and nothing can be changed, because the "
                   "coordinator's store cannot be written: ",
                   failure));
}

void Session::Say(const std::string& message) const {
  err() << "sinkforge: " << Printable(message) << std::endl;
}

}  // namespace sinkforge::client
