// fork and exec; see child_process.h.
#include "worker/process/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "worker/token_variable.h"

namespace sinkforge::worker {
namespace {

absl::Status SystemError(const std::string& what) {
  return absl::UnavailableError(what + ": " + std::strerror(errno));
}

// Both ends close on exec.
class Pipe {
 public:
  Pipe() = default;
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    CloseRead();
    CloseWrite();
  }
  absl::Status Open() {
    return pipe2(ends_.data(), O_CLOEXEC) == 0 ? absl::OkStatus() : SystemError("pipe");
  }
  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }
  void CloseRead() { Close(&ends_[0]); }
  void CloseWrite() { Close(&ends_[1]); }
  int ReleaseRead() { return std::exchange(ends_[0], -1); }

 private:
  static void Close(int* fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
  }
  std::array<int, 2> ends_ = {-1, -1};
};

struct Pipes {
  Pipe out, err;
  Pipe go;      // the parent writes a byte: execute
  Pipe failed;  // the child writes errno: could not execute; closed by exec
};

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  // execve takes char* for historical reasons and does not write.
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// A child must not inherit what this process ignores or blocks.
void ResetSignals() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) sigaction(number, &action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// In the child, between fork and exec: only async-signal-safe calls, no allocation.
[[noreturn]] void RunChild(char* const* arguments, char* const* environment, pid_t parent,
                           const Pipes& pipes) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have died before the line above.
  if (getppid() != parent) _exit(127);
  ResetSignals();
  // This end must be closed here: while it is open in the child itself, the parent's death would
  // not end the read.
  close(pipes.go.write_end());
  char byte = 0;
  ssize_t got = 0;
  do {
    got = read(pipes.go.read_end(), &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got != 1) _exit(127);
  const int null = open("/dev/null", O_RDONLY);
  if (null >= 0 && chdir("/") == 0 && dup2(null, 0) == 0 && dup2(pipes.out.write_end(), 1) == 1 &&
      dup2(pipes.err.write_end(), 2) == 2) {
    // Not even descriptors that some library opened without O_CLOEXEC; but `failed` closes on exec.
    const auto failed = static_cast<unsigned>(pipes.failed.write_end());
    if (failed > 3) close_range(3, failed - 1, 0);
    close_range(failed + 1, ~0U, 0);
    execve(arguments[0], arguments, environment);
  }
  const int error = errno;
  const ssize_t written = write(pipes.failed.write_end(), &error, sizeof(error));
  _exit(written == sizeof(error) ? 127 : 126);
}

void Reap(pid_t pid) {
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

absl::StatusOr<Child> StartChild(const ChildCommand& command,
                                 const std::function<absl::Status(pid_t)>& before_exec) {
  Pipes pipes;
  for (Pipe* one : {&pipes.out, &pipes.err, &pipes.go, &pipes.failed}) {
    if (absl::Status status = one->Open(); !status.ok()) return status;
  }
  const std::vector<char*> arguments = Pointers(command.arguments);
  const std::vector<char*> environment = Pointers(command.environment);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return SystemError("fork");
  if (pid == 0) RunChild(arguments.data(), environment.data(), parent, pipes);

  // Here as well as in the child: whoever comes first, the group is there when this returns.
  setpgid(pid, pid);
  pipes.out.CloseWrite();
  pipes.err.CloseWrite();
  pipes.go.CloseRead();
  pipes.failed.CloseWrite();
  absl::Status status = before_exec(pid);
  if (status.ok() && write(pipes.go.write_end(), "g", 1) != 1) status = SystemError("pipe");
  pipes.go.CloseWrite();
  int error = 0;
  ssize_t got = 0;
  while (status.ok() && (got = read(pipes.failed.read_end(), &error, sizeof(error))) < 0 &&
         errno == EINTR) {
  }
  if (status.ok() && got == sizeof(error)) {
    status =
        absl::NotFoundError(command.arguments[0] + ": cannot be executed: " + std::strerror(error) +
                            "; give the right path with --trainer");
  }
  if (!status.ok()) {
    kill(pid, SIGKILL);
    Reap(pid);
    return status;
  }
  return Child{pid, pipes.out.ReleaseRead(), pipes.err.ReleaseRead()};
}

namespace {

// The GPU at `index` of a list such as "2,3"; the index itself where there is no list.
std::string VisibleGpu(std::string_view list, int index) {
  for (int i = 0; i < index && !list.empty(); ++i) {
    const size_t comma = list.find(',');
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
  }
  const std::string_view gpu = list.substr(0, list.find(','));
  return gpu.empty() ? std::to_string(index) : std::string(gpu);
}

}  // namespace

std::vector<std::string> CleanEnvironment(const char* const* environment, int threads,
                                          std::optional<int> gpu) {
  constexpr std::string_view kVisible = "CUDA_VISIBLE_DEVICES=";
  std::string_view visible;
  // Exact names, and prefixes that end with an underscore.
  constexpr std::string_view kKept[] = {
      "PATH",         "HOME",         "USER",          "LANG",         "TZ",
      "TMPDIR",       "LC_",          "CUDA_",         "NCCL_",        "NVIDIA_",
      "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "LD_LIBRARY_PATH",
      "SINKFORGE_"};
  std::vector<std::string> kept;
  for (; *environment != nullptr; ++environment) {
    const std::string_view entry(*environment);
    if (gpu && entry.substr(0, kVisible.size()) == kVisible) {
      visible = entry.substr(kVisible.size());
      continue;
    }
    // Of a trainer that we ourselves may be running under; ours gets its own.
    if (entry.substr(0, entry.find('=')) == kTokenVariable) continue;
    for (const std::string_view name : kKept) {
      const bool matches = name.back() == '_' ? entry.substr(0, name.size()) == name
                                              : entry.substr(0, entry.find('=')) == name;
      if (matches) kept.emplace_back(entry);
    }
  }
  if (gpu) kept.push_back(std::string(kVisible) + VisibleGpu(visible, *gpu));
  kept.push_back("OMP_NUM_THREADS=" + std::to_string(threads));
  // Threads that spin between parallel regions would take the processor from the other trainers.
  kept.emplace_back("OMP_WAIT_POLICY=PASSIVE");
  return kept;
}

}  // namespace sinkforge::worker
