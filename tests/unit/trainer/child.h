// Child: the real sinkforge-trainer as a child process, its stderr in a file.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/unit/trainer/temp_folder.h"
#include "worker/token_variable.h"

namespace sinkforge::trainer {

class Child {
 public:
  // `token`: by which its daemon knows the trainer; empty for none.
  Child(const std::vector<std::string>& arguments, const std::string& stderr_path,
        const std::string& token = "")
      : stderr_path_(stderr_path) {
    pid_ = fork();
    if (pid_ != 0) return;
    const int fd = open(stderr_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(fd, STDERR_FILENO);
    dup2(fd, STDOUT_FILENO);
    if (!token.empty()) setenv(kTokenVariable, token.c_str(), 1);
    std::vector<char*> argv = {const_cast<char*>(TRAINER_BINARY)};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.data()));
    argv.push_back(nullptr);
    execv(TRAINER_BINARY, argv.data());
    _exit(127);
  }
  ~Child() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // The exit code, or minus the signal.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  bool Running() {
    int status = 0;
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0 && status == 0;
  }
  void Signal(int number) const { kill(pid_, number); }
  std::string Output() const { return ReadWhole(stderr_path_); }

 private:
  std::string stderr_path_;
  pid_t pid_ = -1;
};

}  // namespace sinkforge::trainer
