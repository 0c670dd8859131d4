// The coordinator's process under load, seen from outside: its ports, memory and processor time.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace sinkforge::bench {

[[noreturn]] void Die(const std::string& message);

// Killed at the end. Its data, log and port file are in `folder`.
class CoordinatorProcess {
 public:
  // Returns when it serves. Port 0: any. Dies where it does not start.
  CoordinatorProcess(const std::string& program, const std::string& folder, int port);
  ~CoordinatorProcess() { Kill(); }

  // kill -9.
  void Kill();
  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  // User and system time so far, seconds.
  double CpuSeconds() const;
  double PeakMebibytes() const;

 private:
  pid_t pid_ = -1;
  int port_ = 0;
};

// What synced writes of 4 KiB take in the folder, seconds each.
std::vector<double> SyncTimes(const std::string& folder);

}  // namespace sinkforge::bench
