// sinkforge-worker: the daemon that runs trainers on one machine. Reads the command line, starts
// the daemon, waits for a signal, drains.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/address.h"
#include "base/build_info.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/number_option.h"
#include "base/port_file.h"
#include "base/service_manager.h"
#include "base/signals.h"
#include "base/tls_flags.h"
#include "worker/daemon.h"
#include "worker/environment.h"

namespace sinkforge::worker {
namespace {

// Documented in worker/README.md and in the text of --help.
enum ExitCode { kOk = 0, kFailed = 1, kUsage = 2, kNameTaken = 3, kDataDir = 4, kUnavailable = 5 };

constexpr char kFooter[] =
    "Exit codes: 0 stopped as asked; 1 failed; 2 wrong options; 3 another live worker has this "
    "--name; 4 the --data-dir is in use or of a newer version; 5 an address is in use, a GPU of "
    "--gpus cannot be used, or the disk fails.\nSIGTERM or SIGINT: trainers write a checkpoint and "
    "stop, and others fetch the "
    "checkpoints that only this worker has, within --grace; a second one ends it at once.";

ExitCode CodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
      return kUsage;
    case absl::StatusCode::kAlreadyExists:
      return kNameTaken;
    case absl::StatusCode::kFailedPrecondition:
      return kDataDir;
    case absl::StatusCode::kUnavailable:
      return kUnavailable;
    default:
      return kFailed;
  }
}

struct CommandLine {
  DaemonOptions daemon;
  std::string port_file;
  double grace_seconds = 60;
  double no_progress_seconds = 600;
  bool insecure_listen = false;
  bool export_importance = false;
};

void AddOptions(CLI::App* app, CommandLine* line) {
  const std::map<std::string, double> time_units = {
      {"ms", 0.001}, {"s", 1}, {"m", 60}, {"h", 3600}};
  const auto duration = CLI::AsNumberWithUnit(time_units, CLI::AsNumberWithUnit::CASE_SENSITIVE);
  DaemonOptions& daemon = line->daemon;
  app->add_option("--name", daemon.name, "Stable name of this worker (default: the host's name)");
  app->add_option("--coordinator", daemon.coordinator, "host:port of the coordinator")
      ->capture_default_str();
  app->add_option("--data-dir", daemon.data_dir,
                  "Folder of this worker's database: checkpoints, unsent metrics and logs")
      ->required();
  base::ExpectNumber<int64_t>(
      app->add_option("--slots", daemon.slots, "CPU slots: trainers that run at the same time"))
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  base::ExpectNumber<int64_t>(
      app->add_option(
          "--gpus", daemon.gpus,
          "GPU slots: one for each of the first GPUs that this process sees, all of which "
          "must be among those that `sinkforge-trainer gpus` lists"))
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app->add_option("--data-root", daemon.data_roots,
                  "Folder that jobs may read training data from; may be given several times");
  app->add_option("--listen", daemon.listen, "Address of the checkpoint service")
      ->capture_default_str();
  app->add_option("--metrics-listen", daemon.metrics_listen, "Address of /metrics for Prometheus")
      ->capture_default_str();
  app->add_flag("--insecure-listen", line->insecure_listen,
                "Allow addresses other than loopback without encryption, which the metrics never "
                "have");
  base::AddTlsFlags(app, &daemon.tls);
  app->add_option("--trainer", daemon.trainer,
                  "Trainer program (default: sinkforge-trainer beside this program)");
  app->add_option("--port-file", line->port_file,
                  "Write the chosen addresses to this file, as JSON, once they listen, and remove "
                  "it at the end");
  app->add_option("--grace", line->grace_seconds,
                  "Time after SIGTERM to checkpoint and stop, and for other workers to fetch the "
                  "checkpoints that only this one has: 500ms, 60s, 5m")
      ->transform(duration)
      ->default_str("60s");
  app->add_option("--no-progress", line->no_progress_seconds,
                  "A trainer without a step for so long is killed: 60s, 10m, 1h")
      ->transform(duration)
      ->default_str("10m");
  app->add_option("--disk-reserve", daemon.disk_reserve_bytes,
                  "Free bytes below which no checkpoint is taken: 512MB, 2GB")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app->add_option("--log-spool", daemon.log_spool_bytes,
                  "Most bytes of unsent log lines; the oldest are dropped above it")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app->add_flag("--export-importance", line->export_importance,
                "Export the importance of every head to Prometheus (layers x heads series a job)");
}

// Written so that NaN is refused too.
absl::Status CheckSeconds(const std::string& flag, double seconds, double least) {
  constexpr double kMost = 30 * 86'400;
  if (seconds >= least && seconds <= kMost) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": is ", seconds, " s; it must be from ", least, " s to 720h"));
}

// A number that does not fit reads as the largest there is, which no disk has.
absl::Status CheckBytes(const std::string& flag, int64_t bytes, int64_t least) {
  constexpr int64_t kMost = int64_t{1} << 60;
  if (bytes >= least && bytes <= kMost) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": is ", bytes, " bytes; it must be from ", least, " to 1EiB"));
}

// Whoever connects needs the port itself, not any.
absl::Status CheckCoordinator(const std::string& address) {
  const bool is_valid =
      base::CheckListenAddress(address, "--coordinator", base::Reach::kAnywhere).ok();
  if (is_valid && !absl::EndsWith(address, ":0")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--coordinator ", address, ": give host:port, with a port of 1 to 65535"));
}

absl::Status CheckCommandLine(const CommandLine& line) {
  absl::Status status = CheckSeconds("--grace", line.grace_seconds, 0);
  if (status.ok()) status = CheckSeconds("--no-progress", line.no_progress_seconds, 0.001);
  if (!status.ok()) return status;
  if (line.daemon.data_dir.empty()) {
    return absl::InvalidArgumentError("--data-dir: give the folder for this worker's database");
  }
  status = CheckCoordinator(line.daemon.coordinator);
  if (status.ok()) status = CheckBytes("--disk-reserve", line.daemon.disk_reserve_bytes, 0);
  if (status.ok()) status = CheckBytes("--log-spool", line.daemon.log_spool_bytes, 1);
  if (status.ok()) status = base::CheckPortFile(line.port_file);
  return status;
}

void Finish(CommandLine* line) {
  const auto to_time = [](double seconds) {
    return std::chrono::nanoseconds(static_cast<int64_t>(seconds * 1e9));
  };
  line->daemon.grace = to_time(line->grace_seconds);
  line->daemon.patience.no_progress = to_time(line->no_progress_seconds);
  line->daemon.version = SINKFORGE_VERSION;
  if (line->daemon.name.empty()) line->daemon.name = DefaultWorkerName();
  if (line->insecure_listen) line->daemon.reach = base::Reach::kAnywhere;
  if (line->export_importance) line->daemon.importance = ImportanceSeries::kEveryHead;
}

absl::Status WritePortFile(const std::string& path, const CommandLine& line, const Daemon& daemon) {
  const nlohmann::json content = {{"worker", line.daemon.name},
                                  {"incarnation", daemon.incarnation()},
                                  {"pid", getpid()},
                                  {"address", daemon.address()},
                                  {"metrics_address", daemon.metrics_address()}};
  return base::WriteFileDurably(path, content.dump(2) + "\n");
}

// Why the daemon ended by itself; OK while it has not.
class FatalError {
 public:
  void Set(const absl::Status& status) EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    status_ = status;
  }
  absl::Status Get() const EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  mutable base::Mutex mutex_;
  absl::Status status_ GUARDED_BY(mutex_);
};

// Waits for the first signal, then drains; further signals end the grace period.
void RunUntilDrained(Daemon* daemon, const FatalError& fatal) {
  base::WaitForTermination();
  if (!fatal.Get().ok()) return;
  base::NotifyServiceManager("STOPPING=1");
  std::atomic<bool> drained = false;
  std::thread drain([&] {
    daemon->Drain();
    drained = true;
    kill(getpid(), SIGTERM);  // wakes the thread below
  });
  while (!drained) {
    base::WaitForTermination();
    if (!drained) daemon->Hurry();
  }
  drain.join();
}

ExitCode Fail(const absl::Status& status) {
  base::LogError(absl::StrCat("cannot start: ", std::string(status.message())));
  return CodeOf(status);
}

ExitCode Run(const CommandLine& line) {
  base::SetLogContext({{"worker", line.daemon.name}});
  const base::RealClock clock;
  FatalError fatal;
  auto daemon = Daemon::Start(line.daemon, &clock, [&](const absl::Status& status) {
    fatal.Set(status);
    kill(getpid(), SIGTERM);
  });
  if (!daemon.ok()) return Fail(daemon.status());
  base::LogInfo("worker is up", {{"coordinator", line.daemon.coordinator},
                                 {"address", (*daemon)->address()},
                                 {"metrics", "http://" + (*daemon)->metrics_address() + "/metrics"},
                                 {"slots", int64_t{line.daemon.slots}}});
  if (!line.port_file.empty()) {
    const absl::Status written = WritePortFile(line.port_file, line, **daemon);
    if (!written.ok()) return Fail(written);
  }
  base::NotifyServiceManager("READY=1");
  RunUntilDrained(daemon->get(), fatal);
  base::RemovePortFile(line.port_file);
  const absl::Status end = fatal.Get();
  return end.ok() ? kOk : Fail(end);
}

}  // namespace
}  // namespace sinkforge::worker

int main(int argc, char** argv) {
  using namespace sinkforge;
  base::BlockTerminationSignals();
  base::SetLogComponent("worker");
  CLI::App app("Runs SinkForge's trainers on this machine.", "sinkforge-worker");
  app.footer(worker::kFooter);
  app.set_version_flag("-V,--version", base::VersionText("sinkforge-worker"));
  worker::CommandLine line;
  worker::AddOptions(&app, &line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version come this way too, with code 0.
    return app.exit(error) == 0 ? worker::kOk : worker::kUsage;
  }
  if (const absl::Status valid = worker::CheckCommandLine(line); !valid.ok()) {
    return worker::Fail(valid);
  }
  worker::Finish(&line);
  return worker::Run(line);
}
