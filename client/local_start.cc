// Starting and ending the local instance.
#include "client/local_start.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "client/coordinator.h"
#include "client/format.h"

namespace sinkforge::client {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;
using Say = std::function<void(const std::string&)>;

constexpr char kWorkerName[] = "local";
constexpr std::chrono::milliseconds kPollInterval(20);  // small beside a daemon's start, 100 ms
constexpr std::chrono::seconds kHealthTimeout(2);
constexpr std::chrono::seconds kPortTimeout(1);
constexpr std::chrono::seconds kClearAwayGrace(30);
constexpr int kTailLines = 20;
constexpr int64_t kPortFileBytesMax = 4096;
// The ports that dashboards and other machines' configurations expect.
constexpr int kCoordinatorPort = 7070;
constexpr int kCoordinatorMetricsPort = 9470;
constexpr int kCoordinatorPagePort = 7080;
constexpr int kWorkerMetricsPort = 9471;

std::string Loopback(int port) { return absl::StrCat("127.0.0.1:", port); }

// 0 where there is none.
int PortOf(const std::string& address) {
  int port = 0;
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port)) return 0;
  return port;
}

// Not where the program that started it was killed before it knew the address.
bool Serves(const LocalDaemon& daemon) {
  return IsRunning(daemon.process) && !daemon.address.empty();
}

// The usual port, or 0 (the daemon picks a free one).
int ChoosePort(int usual, const std::string& what, const Say& say) {
  if (!IsPortTaken(usual)) return usual;
  say(absl::StrCat("port ", usual, " is taken by another program; ", what, " gets a free one"));
  return 0;
}

struct Endpoints {
  std::string address;
  std::string metrics_address;
  std::string page_address;  // of a coordinator
};

// A daemon writes the file whole once it listens: the coordinator its ports, a worker its
// addresses. NOT_FOUND: not yet.
absl::StatusOr<Endpoints> ReadPortFile(const std::string& path) {
  const auto text = base::ReadFile(path, kPortFileBytesMax);
  if (!text.ok()) return text.status();
  try {
    const auto json = nlohmann::json::parse(*text);
    if (json.contains("address")) {
      return Endpoints{json.at("address"), json.at("metrics_address"), ""};
    }
    return Endpoints{Loopback(json.at("port")), Loopback(json.at("metrics_port")),
                     Loopback(json.at("http_port"))};
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat(path, ": ", error.what()));
  }
}

class Starter {
 public:
  Starter(const LocalOptions& options, const LocalInstance& existing, StopSignal* stop,
          const Say& say)
      : options_(options),
        stop_(stop),
        say_(say),
        end_(steady_clock::now() + options.start_timeout),
        keeps_coordinator_(Serves(existing.coordinator)),
        keeps_worker_(Serves(existing.worker)),
        instance_(existing) {}

  absl::StatusOr<LocalInstance> Run() {
    absl::Status status = ClearAway();
    if (status.ok() && !keeps_coordinator_) status = StartCoordinator();
    if (status.ok()) status = keeps_worker_ ? AwaitKeptWorker() : StartWorker();
    if (status.ok()) return instance_;
    EndStarted();
    return status;
  }

 private:
  // Ends what a daemon that crashed left behind, and a worker whose coordinator cannot come back.
  absl::Status ClearAway() {
    const bool is_alone = keeps_worker_ && !keeps_coordinator_;
    const bool is_free = is_alone && IsAddressFree();
    if (stop_->stopped()) return absl::CancelledError("interrupted");
    if (is_alone && !is_free) {
      say_(absl::StrCat("the coordinator's address ", instance_.coordinator.address,
                        " is taken by another program; the worker is started anew as well"));
      keeps_worker_ = false;
    }
    for (const auto& [keeps, daemon] : {std::pair(keeps_worker_, &instance_.worker),
                                        std::pair(keeps_coordinator_, &instance_.coordinator)}) {
      if (keeps) continue;
      const auto result = EndProcess(daemon->process, kClearAwayGrace);
      if (!result.ok()) return result.status();
      daemon->process = {};
    }
    return absl::OkStatus();
  }

  // A process that was killed a moment ago may still hold its port.
  bool IsAddressFree() {
    const int port = PortOf(instance_.coordinator.address);
    if (port == 0) return false;
    const auto end = steady_clock::now() + kPortTimeout;
    while (IsPortTaken(port)) {
      if (steady_clock::now() > end || stop_->WaitFor(kPollInterval)) return false;
    }
    return true;
  }

  // Not what ran before. The first error is the one that matters.
  void EndStarted() {
    LocalInstance started = instance_;
    if (keeps_coordinator_) started.coordinator.process = {};
    if (keeps_worker_) started.worker.process = {};
    const auto ended = EndLocal(options_.state_folder, started, std::chrono::seconds(5),
                                [](const std::string&) {});
    if (!ended.ok() || !(keeps_coordinator_ || keeps_worker_)) return;
    if (!keeps_coordinator_) instance_.coordinator.process = {};
    if (!keeps_worker_) instance_.worker.process = {};
    WriteLocalInstance(options_.state_folder, instance_).IgnoreError();
  }

  absl::Status StartCoordinator() {
    // The worker, if it goes on, knows the address.
    const int port = keeps_worker_ ? PortOf(instance_.coordinator.address)
                                   : ChoosePort(kCoordinatorPort, "the coordinator", say_);
    const int metrics = ChoosePort(
        keeps_worker_ ? PortOf(instance_.coordinator.metrics_address) : kCoordinatorMetricsPort,
        "the coordinator's /metrics", say_);
    const int before = PortOf(instance_.coordinator.page_address);
    const int page = ChoosePort(keeps_worker_ && before != 0 ? before : kCoordinatorPagePort,
                                "the coordinator's page", say_);
    absl::Status status = StartDaemon("coordinator",
                                      {"--listen", Loopback(port), "--metrics-listen",
                                       Loopback(metrics), "--http", Loopback(page)},
                                      &instance_.coordinator);
    if (!status.ok()) return status;
    return Await("coordinator", instance_.coordinator,
                 [this] { return CheckHealth(instance_.coordinator.address, kHealthTimeout); });
  }

  absl::Status StartWorker() {
    Coordinator coordinator({.address = instance_.coordinator.address,
                             .address_source = "the local instance",
                             .retry_for = std::nullopt});
    // The worker's last life may still be in the coordinator's list.
    const auto before = coordinator.ListWorkers();
    if (!before.ok()) return before.status();
    std::vector<std::string> arguments = {
        "--name",
        kWorkerName,
        "--coordinator",
        instance_.coordinator.address,
        "--slots",
        absl::StrCat(options_.settings.slots),
        "--listen",
        Loopback(0),
        "--disk-reserve",
        absl::StrCat(kLocalDiskReserveBytes),
        "--metrics-listen",
        Loopback(ChoosePort(kWorkerMetricsPort, "the worker's /metrics", say_))};
    for (const std::string& root : options_.settings.data_roots) {
      arguments.insert(arguments.end(), {"--data-root", root});
    }
    instance_.worker_name = kWorkerName;
    instance_.settings = options_.settings;
    const absl::Status status = StartDaemon("worker", std::move(arguments), &instance_.worker);
    if (!status.ok()) return status;
    return Await("worker", instance_.worker, [&]() -> absl::Status {
      const auto workers = coordinator.ListWorkers();
      if (!workers.ok()) return workers.status();
      for (const v1::Worker& worker : workers->workers()) {
        if (worker.worker() == kWorkerName && worker.state() != v1::WORKER_STATE_LOST &&
            IsNew(worker, *before)) {
          WarnOfDrain(worker);
          return CheckHealth(worker.address(), kHealthTimeout);
        }
      }
      return absl::UnavailableError("the coordinator does not know it yet");
    });
  }

  absl::Status AwaitKeptWorker() {
    Coordinator coordinator({.address = instance_.coordinator.address,
                             .address_source = "the local instance",
                             .retry_for = std::nullopt});
    return Await("worker", instance_.worker, [&]() -> absl::Status {
      const auto workers = coordinator.ListWorkers();
      if (!workers.ok()) return workers.status();
      for (const v1::Worker& worker : workers->workers()) {
        if (worker.worker() == instance_.worker_name && worker.state() != v1::WORKER_STATE_LOST &&
            worker.address() == instance_.worker.address) {
          WarnOfDrain(worker);
          return absl::OkStatus();
        }
      }
      return absl::UnavailableError("it has not come back to the coordinator yet");
    });
  }

  // It stays out of use over a restart, because whoever drained it said so.
  void WarnOfDrain(const v1::Worker& worker) {
    if (worker.state() == v1::WORKER_STATE_LIVE) return;
    say_(absl::StrCat("warning: worker ", worker.worker(),
                      " is drained and takes no job; run `sinkforge undrain ", worker.worker(),
                      "`"));
  }

  static bool IsNew(const v1::Worker& worker, const v1::ListWorkersResponse& before) {
    for (const v1::Worker& old : before.workers()) {
      if (old.worker() == worker.worker()) return old.incarnation() != worker.incarnation();
    }
    return true;
  }

  // Spawns sinkforge-<name> and waits until it listens.
  absl::Status StartDaemon(const std::string& name, std::vector<std::string> arguments,
                           LocalDaemon* daemon) {
    const std::string folder = absl::StrCat(options_.state_folder, "/", name);
    const absl::Status made = base::MakeFolder(folder);
    if (!made.ok()) return made;
    const std::string port_file = absl::StrCat(options_.state_folder, "/", name, ".ports.json");
    unlink(port_file.c_str());
    daemon->log_file = absl::StrCat(options_.state_folder, "/", name, ".log");
    arguments.insert(arguments.end(), {"--data-dir", folder, "--port-file", port_file});
    auto process = Spawn({.program = absl::StrCat(options_.program_folder, "/sinkforge-", name),
                          .arguments = std::move(arguments),
                          .log_file = daemon->log_file,
                          .working_folder = options_.state_folder});
    if (!process.ok()) return process.status();
    daemon->process = *std::move(process);
    // At once, so that `local down` finds it whatever happens to this program.
    absl::Status status = WriteLocalInstance(options_.state_folder, instance_);
    if (!status.ok()) return status;
    status = Await(name, *daemon, [&] { return ReadPortFile(port_file).status(); });
    if (!status.ok()) return status;
    const auto endpoints = ReadPortFile(port_file);
    if (!endpoints.ok()) return endpoints.status();
    daemon->address = endpoints->address;
    daemon->metrics_address = endpoints->metrics_address;
    daemon->page_address = endpoints->page_address;
    return WriteLocalInstance(options_.state_folder, instance_);
  }

  // Until `ready` is OK. Errors: the daemon ended, the time is over, Ctrl-C.
  absl::Status Await(const std::string& name, const LocalDaemon& daemon,
                     const std::function<absl::Status()>& ready) {
    while (true) {
      const absl::Status status = ready();
      if (status.ok()) return status;
      if (!IsRunning(daemon.process)) return Failure(name, daemon, "ended at its start");
      if (steady_clock::now() > end_) {
        return Failure(name, daemon,
                       absl::StrCat("is not ready in time (", std::string(status.message()), ")"));
      }
      if (stop_->WaitFor(kPollInterval)) {
        return absl::CancelledError("interrupted; what was started was ended again");
      }
    }
  }

  static absl::Status Failure(const std::string& name, const LocalDaemon& daemon,
                              const std::string& what) {
    return absl::UnknownError(absl::StrCat("sinkforge-", name, " ", what, "; the end of ",
                                           daemon.log_file, ":\n",
                                           TailOfFile(daemon.log_file, kTailLines)));
  }

  const LocalOptions& options_;
  StopSignal* stop_;
  const Say& say_;
  steady_clock::time_point end_;
  bool keeps_coordinator_;
  bool keeps_worker_;
  LocalInstance instance_;
};

}  // namespace

std::string SmallDiskWarning(const std::string& state_folder, int64_t free_bytes) {
  if (free_bytes >= kLocalDiskReserveBytes) return "";
  return absl::StrCat(
      "warning: the disk of ", state_folder, " has ", FormatBytes(free_bytes),
      " free, and the worker takes no checkpoint that would leave it less than ",
      FormatBytes(kLocalDiskReserveBytes),
      ": jobs would train, and fail at their last checkpoint; free some space there, or give "
      "--state-dir on a larger disk");
}

LocalState StateOf(const LocalInstance& instance) {
  const bool coordinator = IsRunning(instance.coordinator.process);
  const bool worker = IsRunning(instance.worker.process);
  if (coordinator && worker) return LocalState::kUp;
  return coordinator || worker ? LocalState::kPartly : LocalState::kDown;
}

absl::StatusOr<LocalLock> LocalLock::Take(const std::string& state_folder) {
  const std::string path = absl::StrCat(state_folder, "/lock");
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return absl::UnknownError(absl::StrCat(path, ": ", std::strerror(errno)));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    close(fd);
    return absl::UnavailableError(absl::StrCat(
        state_folder, ": another `sinkforge local` is at work there; wait until it has ended"));
  }
  return LocalLock(fd);
}

LocalLock::~LocalLock() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<LocalInstance> StartLocal(const LocalOptions& options, const LocalInstance& existing,
                                         StopSignal* stop, const Say& say) {
  return Starter(options, existing, stop, say).Run();
}

absl::Status EndLocal(const std::string& state_folder, const LocalInstance& instance,
                      nanoseconds grace, const Say& say) {
  for (const auto& [name, daemon] :
       {std::pair("worker", &instance.worker), std::pair("coordinator", &instance.coordinator)}) {
    const auto result = EndProcess(daemon->process, grace);
    if (!result.ok()) return result.status();
    if (*result == EndResult::kEnded) say(absl::StrCat(name, " ended"));
    if (*result == EndResult::kKilled) {
      say(absl::StrCat(name, " did not end in time and was killed; its log: ", daemon->log_file));
    }
  }
  if (unlink(LocalInstanceFile(state_folder).c_str()) != 0 && errno != ENOENT) {
    return absl::UnknownError(
        absl::StrCat(LocalInstanceFile(state_folder), ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace sinkforge::client
