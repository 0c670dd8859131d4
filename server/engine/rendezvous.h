// Rendezvous: the values that the ranks of one attempt leave for one another while they meet. In
// memory only, per (job, attempt), dropped when the attempt ends.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace sinkforge::server {

struct RendezvousLimits {
  int64_t keys_max = 1024;  // of one attempt
  int64_t key_bytes_max = 1024;
  int64_t value_bytes_max = 64 << 10;
  int64_t bytes_max = int64_t{256} << 20;  // of all attempts together
  int64_t waiters_max = 16384;             // of all attempts together
};

struct RendezvousKey {
  std::string job_id;
  int64_t attempt = 0;
  std::string key;
};

// Thread-safe. Callers make sure that the attempt is the job's current one.
class Rendezvous {
 public:
  using Done = std::function<void(const absl::StatusOr<std::string>& value)>;

  explicit Rendezvous(const RendezvousLimits& limits) : limits_(limits) {}

  // A value that is there is replaced. RESOURCE_EXHAUSTED: a limit; the message names it.
  absl::Status Put(const RendezvousKey& key, std::string value);
  // Calls `done` once, at once or later, with the value or with why there is none:
  // FAILED_PRECONDITION (the attempt ended), RESOURCE_EXHAUSTED, UNAVAILABLE (shutting down), or
  // Cancel's status. Returns the waiter's number; 0 where `done` was called already.
  int64_t Get(const RendezvousKey& key, Done done);
  // Ends the wait, where it is not over, with `status`.
  void Cancel(int64_t waiter, const absl::Status& status);
  // The job's attempts other than `current_attempt` have ended (0: all have).
  void Drop(const std::string& job_id, int64_t current_attempt);
  // Ends every wait, and those that come later.
  void Shutdown(const absl::Status& status);

 private:
  struct Waiter {
    int64_t number = 0;
    std::string key;
    Done done;
  };
  struct Room {
    std::map<std::string, std::string> values;
    std::vector<Waiter> waiters;
  };
  using RoomName = std::pair<std::string, int64_t>;  // job, attempt

  const RendezvousLimits limits_;
  base::Mutex mutex_;
  std::map<RoomName, Room> rooms_ GUARDED_BY(mutex_);
  std::map<int64_t, RoomName> room_of_waiter_ GUARDED_BY(mutex_);
  int64_t bytes_ GUARDED_BY(mutex_) = 0;
  int64_t last_waiter_ GUARDED_BY(mutex_) = 0;
  absl::Status shut_down_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::server
