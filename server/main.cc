// sinkforge-coordinator: flags, signals and exit codes; the daemon itself is in daemon.h.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/build_info.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/number_option.h"
#include "base/port_file.h"
#include "base/service_manager.h"
#include "base/signals.h"
#include "base/tls_flags.h"
#include "server/daemon.h"

namespace {

using sinkforge::server::DaemonOptions;

constexpr int kExitUsage = 2;
constexpr int kExitData = 4;
constexpr int kExitAddress = 5;  // as of sinkforge-worker

constexpr char kFooter[] =
    "Exit codes: 0 stopped as asked, by SIGTERM or SIGINT; 2 wrong options; 4 the --data-dir "
    "cannot "
    "be used (in use, of a newer version, damaged, full); 5 an address is in use.";

struct Flags {
  DaemonOptions daemon;
  double lease_seconds = 5;
  bool insecure_listen = false;
  std::string port_file;
};

void AddFlags(CLI::App* app, Flags* flags) {
  DaemonOptions& daemon = flags->daemon;
  app->set_version_flag("-V,--version", sinkforge::base::VersionText("sinkforge-coordinator"));
  app->add_option("--listen", daemon.listen, "host:port for gRPC; port 0 picks a free one")
      ->capture_default_str();
  app->add_option(
         "--metrics-listen", daemon.metrics_listen,
         "host:port for Prometheus (/metrics); port 0 picks a free one, empty turns it off")
      ->capture_default_str();
  app->add_option("--http", daemon.http_listen,
                  "host:port of a read-only web page of jobs and workers; port 0 picks a free one "
                  "(default: no page)");
  app->add_option("--data-dir", daemon.data_dir, "folder of the databases; made if absent")
      ->required();
  sinkforge::base::ExpectNumber<double>(
      app->add_option("--lease", flags->lease_seconds,
                      "seconds without a word from a worker until its ranks count as lost"))
      ->capture_default_str();
  app->add_option("--history-bytes", daemon.retention.history_bytes,
                  "disk budget of step records and events, such as 4GiB")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app->add_option("--log-bytes", daemon.retention.log_bytes,
                  "disk budget of the trainers' logs, such as 1GiB")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app->add_option("--port-file", flags->port_file,
                  "write {\"port\": N, \"metrics_port\": N, \"http_port\": N, \"pid\": N} to this "
                  "file when ready, and remove it at the end; 0 for what is off");
  app->add_flag("--insecure-listen", flags->insecure_listen,
                "allow addresses other than loopback without encryption, which the metrics and the "
                "page never have");
  sinkforge::base::AddTlsFlags(app, &daemon.tls);
}

int ExitCodeOf(const absl::Status& status) {
  if (absl::IsInvalidArgument(status)) return kExitUsage;
  const bool is_address =
      absl::IsUnavailable(status) && status.message().find("address") != absl::string_view::npos;
  return is_address ? kExitAddress : kExitData;
}

int Fail(const absl::Status& status) {
  sinkforge::base::LogError(absl::StrCat("cannot start: ", std::string(status.message())));
  return ExitCodeOf(status);
}

}  // namespace

int main(int argc, char** argv) {
  sinkforge::base::BlockTerminationSignals();
  sinkforge::base::SetLogComponent("coordinator");
  Flags flags;
  CLI::App app("SinkForge's coordinator: keeps jobs, schedules them and follows their training.");
  app.footer(kFooter);
  AddFlags(&app, &flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  flags.daemon.version = SINKFORGE_VERSION;
  if (flags.insecure_listen) flags.daemon.reach = sinkforge::base::Reach::kAnywhere;
  // Beyond an hour, and not a number, is refused like 0.
  const bool is_lease = flags.lease_seconds > 0 && flags.lease_seconds < 3601;
  flags.daemon.lease =
      std::chrono::milliseconds(is_lease ? static_cast<int64_t>(flags.lease_seconds * 1000) : 0);
  const absl::Status port_file = sinkforge::base::CheckPortFile(flags.port_file);
  if (!port_file.ok()) return Fail(port_file);
  const sinkforge::base::RealClock clock;
  auto daemon = sinkforge::server::Daemon::Start(flags.daemon, &clock);
  if (!daemon.ok()) return Fail(daemon.status());
  const int port = (*daemon)->port();
  const int metrics_port = (*daemon)->metrics_port();
  const int http_port = (*daemon)->http_port();
  if (!flags.port_file.empty()) {
    const absl::Status written = sinkforge::base::WriteFileDurably(
        flags.port_file,
        absl::StrCat("{\"port\": ", port, ", \"metrics_port\": ", metrics_port,
                     ", \"http_port\": ", http_port, ", \"pid\": ", getpid(), "}\n"));
    if (!written.ok()) return Fail(written);
  }
  sinkforge::base::LogInfo("ready", {{"version", SINKFORGE_VERSION},
                                     {"port", int64_t{port}},
                                     {"metrics_port", int64_t{metrics_port}},
                                     {"http_port", int64_t{http_port}},
                                     {"data_dir", flags.daemon.data_dir}});
  sinkforge::base::NotifyServiceManager("READY=1");
  const int signal = sinkforge::base::WaitForTermination();
  sinkforge::base::NotifyServiceManager("STOPPING=1");
  sinkforge::base::LogInfo("shutting down", {{"signal", int64_t{signal}}});
  (*daemon)->Shutdown();
  sinkforge::base::RemovePortFile(flags.port_file);
  daemon->reset();
  sinkforge::base::LogInfo("stopped");
  return 0;
}
