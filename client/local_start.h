// Starting and ending the local instance: a coordinator and a worker as background processes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "client/local_instance.h"
#include "client/stop_signal.h"

namespace sinkforge::client {

struct LocalOptions {
  std::string state_folder;
  std::string program_folder;
  std::string working_folder;
  LocalSettings settings;
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

// Free bytes below which the worker that is started takes no checkpoint.
constexpr int64_t kLocalDiskReserveBytes = int64_t{512} << 20;
// What to say where the disk of the state folder has less free than that; else empty.
std::string SmallDiskWarning(const std::string& state_folder, int64_t free_bytes);

// Starts what of `existing` does not run, and returns when the coordinator is healthy and the
// worker is registered. A worker that runs goes on undisturbed: its coordinator comes back at the
// address that it knows; only where another program took that port is the worker started anew as
// well. After an error (which ends with the failed daemon's last log lines) nothing that was
// started is left running. `say` gets messages for people.
absl::StatusOr<LocalInstance> StartLocal(const LocalOptions& options, const LocalInstance& existing,
                                         StopSignal* stop,
                                         const std::function<void(const std::string&)>& say);

// The worker first, so that its trainers can checkpoint and the coordinator hears of it.
absl::Status EndLocal(const std::string& state_folder, const LocalInstance& instance,
                      std::chrono::nanoseconds grace,
                      const std::function<void(const std::string&)>& say);

}  // namespace sinkforge::client
