// sinkforge: the client. Everything else is in cli.cc and in one file per subcommand.
#include <sys/ioctl.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "client/cli.h"

namespace {

// Columns; 80 where nobody knows.
void TakeTerminalSize(sinkforge::client::Environment* environment) {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return;
  if (size.ws_col > 0) environment->width = size.ws_col;
  if (size.ws_row > 0) environment->height = size.ws_row;
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
  // A reader that went away (`sinkforge list | head -1`) ends the program quietly at its next
  // write; gRPC's sockets must not do the same, and they use MSG_NOSIGNAL.
  std::signal(SIGPIPE, SIG_DFL);
  sinkforge::client::Environment environment;
  environment.out = &std::cout;
  environment.err = &std::cerr;
  environment.out_is_terminal = isatty(STDOUT_FILENO) == 1;
  environment.err_is_terminal = isatty(STDERR_FILENO) == 1;
  TakeTerminalSize(&environment);
  environment.variable = [](const std::string& name) -> std::string {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? "" : value;
  };
  environment.program_folder = ProgramFolder();
  environment.working_folder = WorkingFolder();
  return sinkforge::client::RunCommandLine(std::vector<std::string>(argv + 1, argv + argc),
                                           environment);
}
