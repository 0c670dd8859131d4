// fork and exec, and a wait that Ctrl-C ends.
#include "client/trainer_program.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"

namespace sinkforge::client {

absl::StatusOr<int> RunTrainer(Session& session, const std::vector<std::string>& arguments,
                               StopSignal* stop) {
  const std::string program = session.environment().program_folder + "/sinkforge-trainer";
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  session.out().flush();
  const pid_t pid = fork();
  if (pid < 0) return absl::UnavailableError(absl::StrCat("fork: ", std::strerror(errno)));
  if (pid == 0) {
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  {
    // This program outlives the trainer: it has a folder to remove.
    const StopSignal::Hook hook(stop, [pid] { kill(pid, SIGTERM); });
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
  }
  if (stop->stopped()) return kExitInterrupted;
  if (WIFSIGNALED(status)) {
    // Whoever read the text has enough of it, as in `sinkforge sample ... | head -1`.
    if (WTERMSIG(status) == SIGPIPE) return kExitOk;
    return absl::InternalError(absl::StrCat("sinkforge-trainer was ended by signal ",
                                            WTERMSIG(status), " (", strsignal(WTERMSIG(status)),
                                            ")"));
  }
  const int code = WEXITSTATUS(status);
  if (code == 127) {
    return absl::NotFoundError(absl::StrCat(program, ": cannot be started; build or install it"));
  }
  // Its message is on stderr already.
  if (code == 2) return kExitUsage;
  return code == 0 ? kExitOk : kExitError;
}

}  // namespace sinkforge::client
