// sinkforge: the client. Everything else is in cli.cc and in one file per subcommand.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "base/rpc_log.h"
#include "client/cli.h"

namespace {

// Of the terminal as it is now; the default where nobody knows.
sinkforge::client::ScreenSize TerminalSize() {
  sinkforge::client::ScreenSize screen;
  winsize size{};
  // Data may go elsewhere while messages and progress go to the terminal.
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 &&
      ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0) {
    return screen;
  }
  if (size.ws_col > 0) screen.width = size.ws_col;
  if (size.ws_row > 0) screen.height = size.ws_row;
  return screen;
}

// A socket would get the number of a standard stream that is closed, and what is printed would go
// into it. Opened the wrong way round, so that each use is the error that it was.
void OccupyStandardDescriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    // The lowest free number, which is this one. Without it the program is as it was.
    (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

std::string ProgramFolder() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0) return ".";
  const std::string file(path, static_cast<size_t>(length));
  return file.substr(0, file.find_last_of('/'));
}

std::string WorkingFolder() {
  char path[PATH_MAX];
  return getcwd(path, sizeof(path)) == nullptr ? "/" : path;
}

}  // namespace

int main(int argc, char** argv) {
  OccupyStandardDescriptors();
  sinkforge::base::SilenceGrpc();
  // A reader that went away (`sinkforge list | head -1`) ends the program quietly at its next
  // write; gRPC's sockets must not do the same, and they use MSG_NOSIGNAL.
  std::signal(SIGPIPE, SIG_DFL);
  sinkforge::client::Environment environment;
  environment.out = &std::cout;
  environment.err = &std::cerr;
  environment.out_is_terminal = isatty(STDOUT_FILENO) == 1;
  environment.err_is_terminal = isatty(STDERR_FILENO) == 1;
  environment.screen_size = TerminalSize;
  environment.variable = [](const std::string& name) -> std::string {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? "" : value;
  };
  environment.program_folder = ProgramFolder();
  environment.working_folder = WorkingFolder();
  return sinkforge::client::RunCommandLine(std::vector<std::string>(argv + 1, argv + argc),
                                           environment);
}
