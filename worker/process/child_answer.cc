// One loop over both pipes, the child's end and the time.
#include "worker/process/child_answer.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/strings/str_cat.h"

namespace sinkforge::worker {
namespace {

constexpr size_t kTextBytesMax = 1 << 20;
constexpr int kLookMilliseconds = 10;  // between two looks at the child and the time
// After SIGKILL, which does not end one that waits for a broken device; and after the child's end,
// when only a process that left its group may still hold a pipe.
constexpr std::chrono::seconds kLastWait(1);

// Without reaping it: until then its group is its own.
bool HasEnded(pid_t pid) {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid;
}

// Closes the pipe at its end.
void Read(int* fd, std::string* text) {
  std::array<char, 64 << 10> buffer;
  const ssize_t got = read(*fd, buffer.data(), buffer.size());
  if (got < 0 && errno == EINTR) return;
  if (got <= 0) {
    close(*fd);
    *fd = -1;
    return;
  }
  text->append(buffer.data(), static_cast<size_t>(got));
  if (text->size() > kTextBytesMax) text->resize(kTextBytesMax);
}

}  // namespace

absl::StatusOr<ChildAnswer> AskChild(const ChildCommand& command, std::chrono::nanoseconds limit,
                                     const base::Clock& clock) {
  const auto child = StartChild(command, [](pid_t) { return absl::OkStatus(); });
  if (!child.ok()) return child.status();
  ChildAnswer answer;
  std::array<pollfd, 2> pipes = {pollfd{child->stdout_fd, POLLIN, 0},
                                 pollfd{child->stderr_fd, POLLIN, 0}};
  std::chrono::nanoseconds end = clock.Read().monotonic + limit;
  bool ended = false;
  bool in_time = true;
  while (!ended || pipes[0].fd >= 0 || pipes[1].fd >= 0) {
    const auto now = clock.Read().monotonic;
    if (!ended && HasEnded(child->pid)) {
      ended = true;
      kill(-child->pid, SIGKILL);
      end = std::min(end, now + kLastWait);
    }
    if (now >= end && (ended || !in_time)) break;
    if (now >= end) {
      in_time = false;
      kill(-child->pid, SIGKILL);
      end = now + kLastWait;
    }
    if (poll(pipes.data(), pipes.size(), kLookMilliseconds) <= 0) continue;
    if (pipes[0].revents != 0) Read(&pipes[0].fd, &answer.out);
    if (pipes[1].revents != 0) Read(&pipes[1].fd, &answer.err);
  }
  for (const pollfd& pipe : pipes) {
    if (pipe.fd >= 0) close(pipe.fd);
  }
  int status = 0;
  waitpid(child->pid, &status, WNOHANG);
  if (!in_time) {
    return absl::DeadlineExceededError(
        absl::StrCat(command.arguments[0], ": did not end within its time"));
  }
  answer.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return answer;
}

}  // namespace sinkforge::worker
