// Child processes and the threads around them; see trainer_processes.h.
#include "worker/process/trainer_processes.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "worker/process/child_process.h"
#include "worker/token_variable.h"

extern char** environ;

namespace sinkforge::worker {
namespace {

constexpr size_t kReadBytes = 64 << 10;  // a pipe's capacity
// How long output may still come after the trainer's end: only from a process that left its group.
constexpr int kDrainMilliseconds = 1000;

// Reads both pipes of a child until they end, or for a little after Stop.
class OutputReader {
 public:
  using OnLines = std::function<void(const std::vector<v1::LogLine>&)>;
  OutputReader(const Child& child, LogCapture* capture, const base::Clock* clock, OnLines on_lines)
      : fds_{child.stdout_fd, child.stderr_fd},
        capture_(capture),
        clock_(clock),
        on_lines_(std::move(on_lines)),
        stop_(eventfd(0, EFD_CLOEXEC)),
        thread_([this] { Run(); }) {}

  // Ends the thread; afterwards the capture is the caller's.
  ~OutputReader() {
    const uint64_t one = 1;
    // Without the eventfd (no descriptors left) the pipes' end still ends the thread.
    if (stop_ >= 0 && write(stop_, &one, sizeof(one)) < 0) errno = 0;
    thread_.join();
    for (const int fd : fds_) {
      if (fd >= 0) close(fd);
    }
    if (stop_ >= 0) close(stop_);
  }

 private:
  void Run() {
    bool stopping = false;
    while (fds_[0] >= 0 || fds_[1] >= 0) {
      std::array<pollfd, 3> polled = {pollfd{fds_[0], POLLIN, 0}, pollfd{fds_[1], POLLIN, 0},
                                      pollfd{stopping ? -1 : stop_, POLLIN, 0}};
      const int ready = poll(polled.data(), polled.size(), stopping ? kDrainMilliseconds : -1);
      if (ready == 0) break;
      if (ready < 0) continue;
      if (polled[2].revents != 0) stopping = true;
      for (size_t i = 0; i < fds_.size(); ++i) {
        if (polled[i].revents != 0) Read(i);
      }
    }
    on_lines_(capture_->Finish(clock_->Read()));
  }

  void Read(size_t i) {
    const ssize_t got = read(fds_[i], buffer_.data(), buffer_.size());
    if (got < 0 && errno == EINTR) return;
    if (got <= 0) {
      close(fds_[i]);
      fds_[i] = -1;
      return;
    }
    on_lines_(capture_->Add(i == 0 ? v1::LogLine::STREAM_STDOUT : v1::LogLine::STREAM_STDERR,
                            {buffer_.data(), static_cast<size_t>(got)}, clock_->Read()));
  }

  std::array<int, 2> fds_;
  LogCapture* const capture_;
  const base::Clock* const clock_;
  const OnLines on_lines_;
  const int stop_;
  std::array<char, kReadBytes> buffer_;
  std::thread thread_;
};

}  // namespace

// One trainer. The thread that starts it lives until it is reaped, because its end would kill it.
class TrainerProcesses::Process {
 public:
  Process(TrainerProcesses* owner, const LaunchRequest& request)
      : owner_(owner), request_(request), thread_([this] { Run(); }) {}
  ~Process() { thread_.join(); }

  void Kill() EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    killed_ = true;
    if (pid_ > 0) kill(-pid_, SIGKILL);
  }
  bool ended() const { return ended_; }

 private:
  void Run() {
    TrainerExit exit = StartAndWait();
    owner_->sinks_.on_exit(request_.key, exit);
    ended_ = true;
  }

  TrainerExit StartAndWait() EXCLUDES_LOCK(mutex_) {
    ChildCommand command;
    command.arguments = owner_->Arguments();
    command.environment = CleanEnvironment(environ, request_.threads, request_.gpu);
    command.environment.push_back(absl::StrCat(kTokenVariable, "=", request_.token));
    const auto child = StartChild(command, [this](pid_t pid) { return OnForked(pid); });
    if (!child.ok()) {
      base::MutexLock lock(&mutex_);
      Forget();
      TrainerExit exit;
      exit.how = TrainerExit::How::kNotStarted;
      exit.failure = std::string(child.status().message());
      return exit;
    }
    LogCapture capture(request_.key, owner_->options_.log_rate, owner_->clock_->Read());
    TrainerExit exit;
    {
      OutputReader reader(*child, &capture, owner_->clock_, [this](const auto& lines) {
        if (!lines.empty()) owner_->sinks_.on_lines(request_.key, lines);
      });
      exit = WaitForEnd(child->pid);
    }
    exit.stderr_tail = capture.stderr_tail();
    return exit;
  }

  absl::Status OnForked(pid_t pid) EXCLUDES_LOCK(mutex_) {
    const absl::Status recorded = owner_->ledger_->Add(pid);
    base::MutexLock lock(&mutex_);
    pid_ = pid;
    if (killed_) return absl::CancelledError("killed before it had started");
    return recorded;
  }

  // Waits without reaping, so that the pid and the group are still the child's when the rest of its
  // group is killed.
  TrainerExit WaitForEnd(pid_t pid) EXCLUDES_LOCK(mutex_) {
    siginfo_t info = {};
    while (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) < 0) {
      SINKFORGE_REQUIRE(errno == EINTR);
    }
    TrainerExit exit;
    exit.how = info.si_code == CLD_EXITED ? TrainerExit::How::kExited : TrainerExit::How::kSignaled;
    exit.code = info.si_status;
    base::MutexLock lock(&mutex_);
    kill(-pid, SIGKILL);
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    Forget();
    return exit;
  }

  void Forget() REQUIRES_LOCK(mutex_) {
    if (pid_ > 0) owner_->ledger_->Remove(pid_);
    pid_ = 0;
  }

  TrainerProcesses* const owner_;
  const LaunchRequest request_;
  base::Mutex mutex_;
  pid_t pid_ GUARDED_BY(mutex_) = 0;  // 0: not there, or reaped
  bool killed_ GUARDED_BY(mutex_) = false;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

TrainerProcesses::TrainerProcesses(TrainerProcessesOptions options, ProcessLedger* ledger,
                                   const base::Clock* clock, Sinks sinks)
    : options_(std::move(options)), ledger_(ledger), clock_(clock), sinks_(std::move(sinks)) {}

TrainerProcesses::~TrainerProcesses() {
  std::map<RankKey, std::unique_ptr<Process>> processes;
  {
    base::MutexLock lock(&mutex_);
    processes = std::move(processes_);
    processes_.clear();
  }
  for (const auto& [key, process] : processes) process->Kill();
}

void TrainerProcesses::Launch(const LaunchRequest& request) {
  JoinEnded();
  base::MutexLock lock(&mutex_);
  std::unique_ptr<Process>& process = processes_[request.key];
  SINKFORGE_REQUIRE(process == nullptr);
  process = std::make_unique<Process>(this, request);
}

void TrainerProcesses::Kill(const RankKey& key) {
  base::MutexLock lock(&mutex_);
  const auto found = processes_.find(key);
  if (found != processes_.end()) found->second->Kill();
}

void TrainerProcesses::JoinEnded() {
  base::MutexLock lock(&mutex_);
  for (auto it = processes_.begin(); it != processes_.end();) {
    it = it->second->ended() ? processes_.erase(it) : std::next(it);
  }
}

std::vector<std::string> TrainerProcesses::Arguments() const {
  std::vector<std::string> arguments = {options_.trainer, "worker",       "--socket",
                                        options_.socket,  "--parent-pid", std::to_string(getpid())};
  arguments.insert(arguments.end(), options_.extra_arguments.begin(),
                   options_.extra_arguments.end());
  return arguments;
}

}  // namespace sinkforge::worker
