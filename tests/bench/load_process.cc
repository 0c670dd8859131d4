// Starting, killing and looking at the coordinator; see load_process.h.
#include "load_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

namespace sinkforge::bench {

using std::chrono::steady_clock;

void Die(const std::string& message) {
  std::fprintf(stderr, "coordinator_load: %s\n", message.c_str());
  // Not exit: streams may be under way on other threads.
  std::_Exit(1);
}

CoordinatorProcess::CoordinatorProcess(const std::string& program, const std::string& folder,
                                       int port) {
  const std::string port_file = folder + "/port.json";
  std::filesystem::remove(port_file);
  const std::string listen = "127.0.0.1:" + std::to_string(port);
  const std::string data = folder + "/data";
  const std::string log_file = folder + "/log";
  pid_ = fork();
  if (pid_ == 0) {
    const int log = open(log_file.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
    dup2(log, 1);
    dup2(log, 2);
    // Also where this program is killed.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(program.c_str(), "sinkforge-coordinator", "--listen", listen.c_str(), "--metrics-listen",
          "", "--data-dir", data.c_str(), "--port-file", port_file.c_str(),
          static_cast<char*>(nullptr));
    _exit(127);
  }
  while (port_ == 0) {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      Die("the coordinator does not start; its log is in " + log_file);
    }
    std::ifstream file(port_file);
    std::string line;
    if (std::getline(file, line)) std::sscanf(line.c_str(), "{\"port\": %d", &port_);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void CoordinatorProcess::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

double CoordinatorProcess::CpuSeconds() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double CoordinatorProcess::PeakMebibytes() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/status");
  std::string line;
  double kibibytes = 0;
  while (std::getline(file, line)) {
    if (line.rfind("VmHWM:", 0) == 0) kibibytes = std::atof(line.c_str() + 6);
  }
  return kibibytes / 1024;
}

std::vector<double> SyncTimes(const std::string& folder) {
  const std::string path = folder + "/sync-probe";
  const int file = open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
  const std::string block(4096, 'x');
  std::vector<double> times;
  for (int i = 0; i < 500; ++i) {
    const auto begin = steady_clock::now();
    if (write(file, block.data(), block.size()) != 4096 || fdatasync(file) != 0) {
      Die(path + ": cannot be written");
    }
    times.push_back(std::chrono::duration<double>(steady_clock::now() - begin).count());
  }
  close(file);
  std::filesystem::remove(path);
  return times;
}

}  // namespace sinkforge::bench
