// ChangeHub: tells those who follow a job that something of it changed (the record, its events, its
// step records, its logs). It carries no content: a listener reads what it wants, when it wants.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"

namespace sinkforge::server {

enum class Change { kJob, kHistory, kLogs };

// Called from any thread; must not block and must not call the hub.
struct ChangeListener {
  std::function<void(Change)> on_change;
  // The daemon stops: the listener ends what it serves with this status.
  std::function<void(const absl::Status&)> on_shutdown;
};

// Thread-safe. Holds listeners weakly: one that is gone is forgotten.
class ChangeHub {
 public:
  explicit ChangeHub(int64_t listeners_max) : listeners_max_(listeners_max) {}

  // RESOURCE_EXHAUSTED: too many are listening. UNAVAILABLE: shut down.
  absl::Status Listen(const std::string& job_id, const std::shared_ptr<ChangeListener>& listener);
  void Forget(const std::string& job_id, const ChangeListener* listener);
  void Notify(const std::string& job_id, Change change);
  // Ends every listener, those that come later too.
  void Shutdown(const absl::Status& status);

  int64_t listener_count() const;

 private:
  std::vector<std::shared_ptr<ChangeListener>> Of(const std::string& job_id);

  const int64_t listeners_max_;
  mutable base::Mutex mutex_;
  std::map<std::string, std::map<const ChangeListener*, std::weak_ptr<ChangeListener>>> listeners_
      GUARDED_BY(mutex_);
  int64_t count_ GUARDED_BY(mutex_) = 0;
  bool shut_down_ GUARDED_BY(mutex_) = false;
};

}  // namespace sinkforge::server
