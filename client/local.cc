// sinkforge local up, down, status: a coordinator and a worker on this machine.
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/files.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/local_instance.h"
#include "client/local_start.h"
#include "client/session.h"
#include "client/table.h"

namespace sinkforge::client {
namespace {

struct UpOptions {
  std::string state_folder;
  std::vector<std::string> data_roots;
  std::optional<int64_t> slots;
  double timeout_seconds = 30;
};

struct DownOptions {
  std::string state_folder;
  double grace_seconds = 60;
};

std::string Absolute(const Session& session, const std::string& path) {
  const std::filesystem::path whole =
      session.environment().working_folder / std::filesystem::path(path);
  std::string text = whole.lexically_normal().string();
  if (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

absl::StatusOr<std::string> StateFolder(const Session& session, const std::string& flag) {
  const std::string folder =
      flag.empty() ? session.default_state_folder() : Absolute(session, flag);
  if (!folder.empty()) return folder;
  return UsageError(
      "HOME is not set, so the local instance has no place for its state; set HOME or "
      "XDG_STATE_HOME, or give --state-dir DIR");
}

// A process that was stopped or hangs runs all the same.
absl::Status CheckAnswers(const char* name, const LocalDaemon& daemon) {
  constexpr std::chrono::seconds kTimeout(5);  // a busy machine needs more than a moment
  constexpr std::chrono::seconds kEndTimeout(2);
  if (!IsRunning(daemon.process) || daemon.address.empty()) return absl::OkStatus();
  const absl::Status health = CheckHealth(daemon.address, kTimeout);
  // One that says that it does not serve answers.
  if (health.ok() || absl::IsFailedPrecondition(health)) return absl::OkStatus();
  // Nor does one answer that was killed just now, and is not quite gone.
  if (WaitForExit(daemon.process, kEndTimeout)) return absl::OkStatus();
  const auto pid = daemon.process.pid;
  return UnreachableError(absl::StrCat(
      "the ", name, " runs (pid ", pid, "), but does not answer at ", daemon.address,
      "; where it was stopped (Ctrl-Z, SIGSTOP), `kill -CONT ", pid,
      "` lets it go on; else end it with `kill -KILL ", pid,
      "` and start it again with `sinkforge local up`: jobs go on. Its log: ", daemon.log_file));
}

absl::Status CheckAnswers(const LocalInstance& instance) {
  const absl::Status coordinator = CheckAnswers("coordinator", instance.coordinator);
  return coordinator.ok() ? CheckAnswers("worker", instance.worker) : coordinator;
}

// A job's threads default to 2.
int64_t DefaultSlots() { return std::max(1u, std::thread::hardware_concurrency() / 2); }

void PrintInstance(const Session& session, const LocalInstance& instance) {
  if (session.json()) {
    session.out() << LocalInstanceJson(instance) << std::flush;
    return;
  }
  Table table(
      {{"DAEMON"}, {"STATE"}, {"PID", Table::Align::kRight}, {"ADDRESS"}, {"METRICS"}, {"LOG"}});
  for (const auto& [name, daemon] :
       {std::pair("coordinator", &instance.coordinator), std::pair("worker", &instance.worker)}) {
    const bool runs = IsRunning(daemon->process);
    table.AddRow({name, runs ? "running" : "not running",
                  runs ? absl::StrCat(daemon->process.pid) : "-", daemon->address,
                  daemon->metrics_address.empty()
                      ? "-"
                      : absl::StrCat("http://", daemon->metrics_address, "/metrics"),
                  daemon->log_file});
  }
  session.out() << table.Render(0);
  if (!instance.coordinator.page_address.empty()) {
    session.out() << "page: http://" << instance.coordinator.page_address << "/\n";
  }
  session.out() << std::flush;
}

absl::Status CheckDataRoots(const std::vector<std::string>& roots) {
  for (const std::string& root : roots) {
    struct stat info;
    if (stat(root.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) continue;
    return absl::NotFoundError(absl::StrCat(
        "data root ", root, ": no such folder; make it, or name others with --data-root"));
  }
  return absl::OkStatus();
}

void SayWhereItIs(const Session& session, const std::string& folder,
                  const LocalInstance& instance) {
  if (folder == session.default_state_folder()) {
    session.Say("next: `sinkforge submit JOB.yaml --watch`; stop it with `sinkforge local down`");
    return;
  }
  session.Say(absl::StrCat("next: `export SINKFORGE_COORDINATOR=", instance.coordinator.address,
                           "`; stop it with `sinkforge local down --state-dir ", folder, "`"));
}

// The folder for data of this instance: always a data root.
std::string DataFolder(const Session& session, const std::string& state_folder) {
  return Absolute(session, state_folder + "/data");
}

std::vector<std::string> DataRoots(const Session& session, const std::string& state_folder,
                                   const std::vector<std::string>& flags) {
  std::vector<std::string> roots;
  for (const std::string& flag : flags) roots.push_back(Absolute(session, flag));
  roots.push_back(DataFolder(session, state_folder));
  std::vector<std::string> unique;  // in the order given
  for (std::string& root : roots) {
    const bool is_new = std::find(unique.begin(), unique.end(), root) == unique.end();
    if (is_new) unique.push_back(std::move(root));
  }
  return unique;
}

// What was asked for, else what the last `up` had, else the defaults.
absl::StatusOr<LocalSettings> ChooseSettings(const Session& session, const UpOptions& up,
                                             const std::string& state_folder) {
  const auto last = ReadLocalSettings(state_folder);
  if (!last.ok() && !absl::IsNotFound(last.status())) return last.status();
  LocalSettings settings;
  if (last.ok()) settings = *last;
  if (up.slots.has_value()) settings.slots = *up.slots;
  if (settings.slots == 0) settings.slots = DefaultSlots();
  if (!up.data_roots.empty()) {
    settings.data_roots = DataRoots(session, state_folder, up.data_roots);
  } else if (settings.data_roots.empty()) {
    settings.data_roots = DataRoots(session, state_folder, {"."});
  } else {
    session.Say(
        absl::StrCat("data roots of the last `up`: ", absl::StrJoin(settings.data_roots, ", ")));
  }
  return settings;
}

// FAILED_PRECONDITION: the worker that runs has other settings than those asked for.
absl::Status CheckSame(const Session& session, const UpOptions& up, const std::string& state_folder,
                       const LocalSettings& running) {
  std::vector<std::string> differences;
  if (up.slots.has_value() && *up.slots != running.slots) {
    differences.push_back(absl::StrCat("--slots ", running.slots, ", not ", *up.slots));
  }
  if (!up.data_roots.empty()) {
    std::vector<std::string> wanted = DataRoots(session, state_folder, up.data_roots);
    std::vector<std::string> given = running.data_roots;
    std::sort(wanted.begin(), wanted.end());
    std::sort(given.begin(), given.end());
    if (wanted != given) {
      differences.push_back(absl::StrCat("data roots ", absl::StrJoin(given, ", "), ", not ",
                                         absl::StrJoin(wanted, ", ")));
    }
  }
  if (differences.empty()) return absl::OkStatus();
  const bool is_default = state_folder == session.default_state_folder();
  return absl::FailedPreconditionError(
      absl::StrCat("already up with ", absl::StrJoin(differences, " and with "),
                   "; run `sinkforge local down", is_default ? "" : " --state-dir ",
                   is_default ? "" : state_folder, "` first, then this again"));
}

// FAILED_PRECONDITION as above, UNAVAILABLE where what runs does not answer, else OK; says what is
// about to be started.
absl::Status CheckExisting(const Session& session, const UpOptions& up,
                           const std::string& state_folder, const LocalInstance& existing) {
  const absl::Status answers = CheckAnswers(existing);
  if (!answers.ok()) return answers;
  const bool worker = IsRunning(existing.worker.process);
  if (worker) {
    absl::Status status = CheckSame(session, up, state_folder, existing.settings);
    if (!status.ok()) return status;
  }
  if (StateOf(existing) == LocalState::kPartly) {
    session.Say(absl::StrCat("the ", worker ? "coordinator" : "worker",
                             " is not running; it is started again, and the ",
                             worker ? "worker" : "coordinator", " goes on"));
  }
  return absl::OkStatus();
}

absl::Status CheckSeconds(const std::string& flag, double seconds) {
  constexpr double kSecondsMax = 86'400;
  // Written so that NaN is refused too.
  if (seconds >= 0 && seconds <= kSecondsMax) return absl::OkStatus();
  return UsageError(absl::StrCat(flag, " ", seconds, ": must be from 0 to 86400 seconds"));
}

absl::StatusOr<int> Up(Session& session, const UpOptions& up) {
  if (up.slots.has_value() && (*up.slots < 1 || *up.slots > 1024)) {
    return UsageError("--slots must be between 1 and 1024");
  }
  absl::Status status = CheckSeconds("--timeout", up.timeout_seconds);
  if (!status.ok()) return status;
  StopSignal stop(StopSignal::Source::kSignals);
  LocalOptions options;
  const auto folder = StateFolder(session, up.state_folder);
  if (!folder.ok()) return folder.status();
  options.state_folder = *folder;
  options.program_folder = session.environment().program_folder;
  options.working_folder = session.environment().working_folder;
  options.start_timeout = std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(up.timeout_seconds));
  status = base::MakeFolder(DataFolder(session, options.state_folder));
  if (!status.ok()) return status;
  const auto lock = LocalLock::Take(options.state_folder);
  if (!lock.ok()) return lock.status();
  auto existing = ReadLocalInstance(options.state_folder);
  if (absl::IsNotFound(existing.status())) existing = LocalInstance();
  if (!existing.ok()) return existing.status();
  status = CheckExisting(session, up, options.state_folder, *existing);
  if (!status.ok()) return status;
  if (StateOf(*existing) == LocalState::kUp) {
    session.Say("already up; nothing was changed");
    PrintInstance(session, *existing);
    return kExitOk;
  }
  if (IsRunning(existing->worker.process)) {
    options.settings = existing->settings;
  } else {
    auto settings = ChooseSettings(session, up, options.state_folder);
    if (!settings.ok()) return settings.status();
    options.settings = *std::move(settings);
    status = CheckDataRoots(options.settings.data_roots);
    if (!status.ok()) return status;
  }
  if (const auto free = base::DiskFreeBytes(options.state_folder); free.ok()) {
    const std::string warning = SmallDiskWarning(options.state_folder, *free);
    if (!warning.empty()) session.Say(warning);
  }
  const auto instance = StartLocal(
      options, *existing, &stop, [&session](const std::string& message) { session.Say(message); });
  if (!instance.ok()) return instance.status();
  status = WriteLocalSettings(options.state_folder, instance->settings);
  if (!status.ok()) return status;
  PrintInstance(session, *instance);
  SayWhereItIs(session, options.state_folder, *instance);
  return kExitOk;
}

absl::StatusOr<int> Down(Session& session, const DownOptions& options) {
  absl::Status status = CheckSeconds("--grace", options.grace_seconds);
  if (!status.ok()) return status;
  const auto found = StateFolder(session, options.state_folder);
  if (!found.ok()) return found.status();
  const std::string& folder = *found;
  const auto existing = ReadLocalInstance(folder);
  if (absl::IsNotFound(existing.status())) {
    session.Say(absl::StrCat("nothing is up in ", folder));
    return kExitOk;
  }
  const auto lock = LocalLock::Take(folder);
  if (!lock.ok()) return lock.status();
  if (!existing.ok()) return existing.status();
  status = EndLocal(folder, *existing,
                    std::chrono::duration_cast<std::chrono::nanoseconds>(
                        std::chrono::duration<double>(options.grace_seconds)),
                    [&session](const std::string& message) { session.Say(message); });
  if (!status.ok()) return status;
  session.Say("down; jobs, history and checkpoints stay, and go on with `sinkforge local up`");
  return kExitOk;
}

absl::StatusOr<int> Status(Session& session, const std::string& flag) {
  const auto found = StateFolder(session, flag);
  if (!found.ok()) return found.status();
  const std::string& folder = *found;
  const auto instance = ReadLocalInstance(folder);
  if (absl::IsNotFound(instance.status())) {
    return absl::NotFoundError(
        absl::StrCat("nothing is up in ", folder, "; start it with `sinkforge local up`"));
  }
  if (!instance.ok()) return instance.status();
  PrintInstance(session, *instance);
  const absl::Status answers = CheckAnswers(*instance);
  if (!answers.ok()) return answers;
  if (StateOf(*instance) == LocalState::kUp) return kExitOk;
  session.Say("not all of it runs; start it again with `sinkforge local up`");
  return kExitNotFound;
}

Option StateFolderOption(std::string* target) {
  return {"--state-dir", "DIR",
          "Where its state is (default: ${XDG_STATE_HOME:-~/.local/state}/sinkforge/local)",
          target};
}

Command UpNode() {
  auto options = std::make_shared<UpOptions>();
  Command command;
  command.name = "up";
  command.summary =
      "Start a coordinator and a worker in the background, or what of them is missing";
  command.examples =
      "  sinkforge local up\n"
      "  sinkforge local up --slots 2 --data-root ~/texts\n"
      "Ports: 7070 (coordinator), 7080 (its web page), 9470 and 9471 (/metrics), or free ones "
      "where\n"
      "these are taken.";
  command.options = {
      {"--slots", "N",
       "Trainers at a time (default: as at the last `up`, at first half the processors)",
       &options->slots},
      {"--data-root", "DIR",
       "Where jobs may read data, beside the state's data folder; repeatable (default: as at the "
       "last `up`, at first this folder)",
       &options->data_roots},
      StateFolderOption(&options->state_folder),
      {"--timeout", "SECONDS", "How long to wait until both are ready (default: 30)",
       &options->timeout_seconds}};
  command.run = [options](Session& session) { return Up(session, *options); };
  return command;
}

Command DownNode() {
  auto options = std::make_shared<DownOptions>();
  Command command;
  command.name = "down";
  command.summary = "Stop both; running jobs checkpoint first and go on after the next `up`";
  command.examples = "  sinkforge local down\n  sinkforge local down --grace 5";
  command.options = {
      StateFolderOption(&options->state_folder),
      {"--grace", "SECONDS", "How long each may take to end before it is killed (default: 60)",
       &options->grace_seconds}};
  command.run = [options](Session& session) { return Down(session, *options); };
  return command;
}

Command StatusNode() {
  auto folder = std::make_shared<std::string>();
  Command command;
  command.name = "status";
  command.summary =
      "Print what runs, with addresses and logs; exit code 3: not all of it, 4: it does not answer";
  command.examples = "  sinkforge local status -o json | jq -r .coordinator.address";
  command.options = {StateFolderOption(folder.get())};
  command.run = [folder](Session& session) { return Status(session, *folder); };
  return command;
}

}  // namespace

Command LocalCommand() {
  Command command;
  command.name = "local";
  command.summary = "Start, stop or show a coordinator and a worker on this machine";
  command.examples = "  sinkforge local up\n  sinkforge local status\n  sinkforge local down";
  command.commands = {UpNode(), DownNode(), StatusNode()};
  return command;
}

}  // namespace sinkforge::client
