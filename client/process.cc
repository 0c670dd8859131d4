// Processes by pidfd, which cannot be mistaken for another one once it is open.
#include "client/process.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

extern char** environ;

namespace sinkforge::client {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kKillTimeout(10);  // the kernel ends a process at once, or is stuck
constexpr int64_t kTailBytesMax = 64 << 10;

std::string ReadSmallFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string BootId() {
  std::string id = ReadSmallFile("/proc/sys/kernel/random/boot_id");
  absl::StripAsciiWhitespace(&id);
  return id;
}

struct ProcessStat {
  char state = '?';
  int session = 0;
  int64_t start_ticks = 0;
};

// proc(5): the name in parentheses may hold anything, so that fields count from the last ')'.
std::optional<ProcessStat> ReadStat(int pid) {
  const std::string text = ReadSmallFile(absl::StrCat("/proc/", pid, "/stat"));
  const size_t close = text.rfind(')');
  if (close == std::string::npos || close + 2 > text.size()) return std::nullopt;
  const std::vector<std::string> fields = absl::StrSplit(text.substr(close + 2), ' ');
  ProcessStat stat;
  if (fields.size() < 20 || fields[0].empty() || !absl::SimpleAtoi(fields[3], &stat.session) ||
      !absl::SimpleAtoi(fields[19], &stat.start_ticks)) {
    return std::nullopt;
  }
  stat.state = fields[0][0];
  return stat;
}

bool IsDead(char state) { return state == 'Z' || state == 'X'; }

// Closed at the end of its scope. Negative: the process is gone.
class PidFd {
 public:
  explicit PidFd(int pid) : fd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}
  ~PidFd() {
    if (fd_ >= 0) close(fd_);
  }
  PidFd(const PidFd&) = delete;
  PidFd& operator=(const PidFd&) = delete;
  bool is_open() const { return fd_ >= 0; }
  bool Signal(int number) const {
    return syscall(SYS_pidfd_send_signal, fd_, number, nullptr, 0) == 0;
  }
  // True when the process has ended.
  bool Wait(nanoseconds timeout) const {
    const auto end = steady_clock::now() + timeout;
    while (true) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - steady_clock::now());
      pollfd wait{fd_, POLLIN, 0};
      const int count = poll(&wait, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
      if (count > 0) return true;
      if (count == 0) return false;
    }
  }

 private:
  int fd_;
};

// The other processes of the session that `leader` led. A pid is not given to another process as
// long as a session of that number has members.
std::vector<int> SessionMembers(const ProcessIdentity& leader) {
  std::vector<int> members;
  const auto now_there = ReadStat(leader.pid);
  if (now_there.has_value() && now_there->start_ticks != leader.start_ticks) return members;
  DIR* folder = opendir("/proc");
  if (folder == nullptr) return members;
  while (const dirent* entry = readdir(folder)) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry->d_name, &pid) || pid == leader.pid) continue;
    const auto stat = ReadStat(pid);
    if (stat.has_value() && stat->session == leader.pid && !IsDead(stat->state)) {
      members.push_back(pid);
    }
  }
  closedir(folder);
  return members;
}

absl::Status KillSession(const ProcessIdentity& leader) {
  const auto end = steady_clock::now() + kKillTimeout;
  while (true) {
    const std::vector<int> members = SessionMembers(leader);
    if (members.empty()) return absl::OkStatus();
    if (steady_clock::now() > end) {
      return absl::DeadlineExceededError(
          absl::StrCat("process ", members.front(),
                       " does not end although it was killed; see `ps ", members.front(), "`"));
    }
    for (int pid : members) {
      const PidFd fd(pid);
      // Opened, then looked at again: it is still the process of this session.
      const auto stat = ReadStat(pid);
      if (!fd.is_open() || !stat.has_value() || stat->session != leader.pid) continue;
      fd.Signal(SIGKILL);
      fd.Wait(kKillTimeout);
    }
  }
}

// Collects an ended child of ours; other processes' children are none of our business.
void Reap(int pid) { waitpid(pid, nullptr, WNOHANG); }

}  // namespace

absl::StatusOr<ProcessIdentity> Spawn(const SpawnOptions& options) {
  if (access(options.program.c_str(), X_OK) != 0) {
    return absl::NotFoundError(absl::StrCat(options.program, ": ", std::strerror(errno),
                                            "; it belongs beside this program"));
  }
  std::vector<char*> argv = {const_cast<char*>(options.program.c_str())};
  for (const std::string& argument : options.arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, options.log_file.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  posix_spawn_file_actions_addclosefrom_np(&files, 3);
  posix_spawn_file_actions_addchdir_np(&files, options.working_folder.c_str());
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return absl::UnknownError(
        absl::StrCat(options.program, ": cannot be started: ", std::strerror(error)));
  }
  const auto stat = ReadStat(pid);
  return ProcessIdentity{pid, stat.has_value() ? stat->start_ticks : 0, BootId()};
}

bool IsRunning(const ProcessIdentity& process) {
  if (process.pid <= 0) return false;
  const auto stat = ReadStat(process.pid);
  return stat.has_value() && stat->start_ticks == process.start_ticks && !IsDead(stat->state) &&
         BootId() == process.boot_id;
}

bool WaitForExit(const ProcessIdentity& process, nanoseconds timeout) {
  const PidFd fd(process.pid);
  if (!fd.is_open() || !IsRunning(process)) return true;
  return fd.Wait(timeout);
}

absl::StatusOr<EndResult> EndProcess(const ProcessIdentity& process, nanoseconds grace) {
  if (process.pid <= 0) return EndResult::kNotRunning;
  EndResult result = EndResult::kNotRunning;
  const PidFd fd(process.pid);
  // Looked at after the descriptor was opened: from here on it means this very process.
  if (fd.is_open() && IsRunning(process)) {
    if (!fd.Signal(SIGTERM) && errno == EPERM) {
      return absl::PermissionDeniedError(
          absl::StrCat("process ", process.pid, " belongs to another user"));
    }
    result = EndResult::kEnded;
    if (!fd.Wait(grace)) {
      fd.Signal(SIGKILL);
      result = EndResult::kKilled;
      if (!fd.Wait(kKillTimeout)) {
        return absl::DeadlineExceededError(
            absl::StrCat("process ", process.pid, " does not end although it was killed"));
      }
    }
    Reap(process.pid);
  }
  // After a boot the numbers mean other processes.
  if (BootId() == process.boot_id) {
    const absl::Status status = KillSession(process);
    if (!status.ok()) return status;
  }
  return result;
}

std::string TailOfFile(const std::string& path, int lines) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  const int64_t size = file.tellg();
  file.seekg(std::max<int64_t>(0, size - kTailBytesMax));
  std::vector<std::string> all;
  for (std::string line; std::getline(file, line);) all.push_back(std::move(line));
  const size_t first = all.size() - std::min(all.size(), static_cast<size_t>(lines));
  return absl::StrJoin(all.begin() + static_cast<std::ptrdiff_t>(first), all.end(), "\n");
}

bool IsPortTaken(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const int on = 1;
  // As the daemons do: a port whose connections only linger (TIME_WAIT) is free.
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool taken =
      bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || listen(fd, 1) != 0;
  close(fd);
  return taken;
}

}  // namespace sinkforge::client
