// sinkforge local up, down, status: a coordinator and a worker on this machine.
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
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
  int64_t slots = 0;
  double timeout_seconds = 30;
};

struct DownOptions {
  std::string state_folder;
  double grace_seconds = 60;
};

std::string Absolute(const Session& session, const std::string& path) {
  return path.front() == '/' ? path : absl::StrCat(session.environment().working_folder, "/", path);
}

std::string StateFolder(const Session& session, const std::string& flag) {
  return flag.empty() ? session.default_state_folder() : Absolute(session, flag);
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
  session.out() << table.Render(0) << std::flush;
}

absl::Status CheckDataRoots(const std::vector<std::string>& roots) {
  for (const std::string& root : roots) {
    struct stat info;
    if (stat(root.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) continue;
    return absl::NotFoundError(
        absl::StrCat("data root ", root, ": no such folder; make it, or choose another"));
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

absl::StatusOr<int> Up(Session& session, const UpOptions& up) {
  if (up.slots < 0 || up.slots > 1024) return UsageError("--slots must be between 1 and 1024");
  StopSignal stop(StopSignal::Source::kSignals);
  LocalOptions options;
  options.state_folder = StateFolder(session, up.state_folder);
  options.program_folder = session.environment().program_folder;
  options.working_folder = session.environment().working_folder;
  options.slots = up.slots > 0 ? up.slots : DefaultSlots();
  options.start_timeout = std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(up.timeout_seconds));
  const std::string data_folder = options.state_folder + "/data";
  absl::Status status = base::MakeFolder(data_folder);
  if (!status.ok()) return status;
  for (const std::string& root : up.data_roots)
    options.data_roots.push_back(Absolute(session, root));
  if (options.data_roots.empty()) options.data_roots = {options.working_folder, data_folder};
  status = CheckDataRoots(options.data_roots);
  if (!status.ok()) return status;
  const auto lock = LocalLock::Take(options.state_folder);
  if (!lock.ok()) return lock.status();
  const auto say = [&session](const std::string& message) { session.Say(message); };
  const auto existing = ReadLocalInstance(options.state_folder);
  if (!existing.ok() && !absl::IsNotFound(existing.status())) return existing.status();
  if (existing.ok()) {
    if (StateOf(*existing) == LocalState::kUp) {
      session.Say("already up; nothing was changed");
      PrintInstance(session, *existing);
      return kExitOk;
    }
    if (StateOf(*existing) == LocalState::kPartly) {
      session.Say("one of the two daemons is not running; both are started anew");
    }
    // Also what a daemon that crashed may have left behind.
    status = EndLocal(options.state_folder, *existing, std::chrono::seconds(30), say);
    if (!status.ok()) return status;
  }
  const auto instance = StartLocal(options, &stop, say);
  if (!instance.ok()) return instance.status();
  PrintInstance(session, *instance);
  SayWhereItIs(session, options.state_folder, *instance);
  return kExitOk;
}

absl::StatusOr<int> Down(Session& session, const DownOptions& options) {
  const std::string folder = StateFolder(session, options.state_folder);
  const auto existing = ReadLocalInstance(folder);
  if (absl::IsNotFound(existing.status())) {
    session.Say(absl::StrCat("nothing is up in ", folder));
    return kExitOk;
  }
  const auto lock = LocalLock::Take(folder);
  if (!lock.ok()) return lock.status();
  if (!existing.ok()) return existing.status();
  const absl::Status status =
      EndLocal(folder, *existing,
               std::chrono::duration_cast<std::chrono::nanoseconds>(
                   std::chrono::duration<double>(options.grace_seconds)),
               [&session](const std::string& message) { session.Say(message); });
  if (!status.ok()) return status;
  session.Say("down; jobs, history and checkpoints stay, and go on with `sinkforge local up`");
  return kExitOk;
}

absl::StatusOr<int> Status(Session& session, const std::string& flag) {
  const std::string folder = StateFolder(session, flag);
  const auto instance = ReadLocalInstance(folder);
  if (absl::IsNotFound(instance.status())) {
    return absl::NotFoundError(
        absl::StrCat("nothing is up in ", folder, "; start it with `sinkforge local up`"));
  }
  if (!instance.ok()) return instance.status();
  PrintInstance(session, *instance);
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
  command.summary = "Start a coordinator and a worker in the background";
  command.examples =
      "  sinkforge local up\n"
      "  sinkforge local up --slots 2 --data-root ~/texts\n"
      "Ports: 7070 (coordinator), 9470 and 9471 (/metrics), or free ones where these are taken.";
  command.options = {
      {"--slots", "N", "Trainers at a time (default: half the processors)", &options->slots},
      {"--data-root", "DIR",
       "Where jobs may read data; repeatable (default: this folder and the state's data folder)",
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
  command.summary = "Print what runs, with addresses and logs; exit code 3: not all of it";
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
  command.commands = {UpNode(), DownNode(), StatusNode()};
  return command;
}

}  // namespace sinkforge::client
