// Starting and ending the local instance: a coordinator and a worker as background processes.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/local_instance.h"
#include "client/stop_signal.h"

namespace sinkforge::client {

struct LocalOptions {
  std::string state_folder;
  std::string program_folder;
  std::string working_folder;
  int64_t slots = 1;
  std::vector<std::string> data_roots;  // absolute
  std::chrono::nanoseconds start_timeout{0};
};

enum class LocalState { kDown, kPartly, kUp };
LocalState StateOf(const LocalInstance& instance);

// Only one `local up` or `local down` at a time works on a state folder: held while it lives.
class LocalLock {
 public:
  // UNAVAILABLE: another one holds it.
  static absl::StatusOr<LocalLock> Take(const std::string& state_folder);
  LocalLock(LocalLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  LocalLock& operator=(LocalLock&&) = delete;
  ~LocalLock();

 private:
  explicit LocalLock(int fd) : fd_(fd) {}
  int fd_;
};

// Starts both, and returns when the coordinator is healthy and the worker is registered. After an
// error (which ends with the failed daemon's last log lines) nothing is left running. `say` gets
// messages for people.
absl::StatusOr<LocalInstance> StartLocal(const LocalOptions& options, StopSignal* stop,
                                         const std::function<void(const std::string&)>& say);

// The worker first, so that its trainers can checkpoint and the coordinator hears of it.
absl::Status EndLocal(const std::string& state_folder, const LocalInstance& instance,
                      std::chrono::nanoseconds grace,
                      const std::function<void(const std::string&)>& say);

}  // namespace sinkforge::client
