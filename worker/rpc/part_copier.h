// PartCopier: fetches the checkpoint parts that the coordinator wants a second copy of: several at
// a time, each from another holder, so that one that hangs holds up nobody else's. What cannot be
// fetched is tried again as long as it is wanted.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/log_limit.h"
#include "base/mutex.h"
#include "base/tls.h"
#include "sinkforge/v1/worker_service.pb.h"
#include "worker/store/checkpoint_store.h"

namespace sinkforge::worker {

// Thread-safe.
class PartCopier {
 public:
  struct Parts {
    CheckpointStore* checkpoints = nullptr;  // not owned
    const base::Clock* clock = nullptr;      // not owned
    std::function<void()> on_copied;         // a part became durable here; from several threads
    const base::Tls* tls = nullptr;          // not owned; null: plain text
    std::chrono::milliseconds retry{1000};
  };
  explicit PartCopier(Parts parts);
  ~PartCopier();
  PartCopier(const PartCopier&) = delete;
  PartCopier& operator=(const PartCopier&) = delete;

  // The whole list, every time, the most urgent first. Impossible names and numbers are refused
  // when they are fetched.
  void SetWanted(std::vector<v1::CopyPart> wanted) EXCLUDES_LOCK(mutex_);

 private:
  // One part on its way here.
  struct Fetch {
    v1::CopyPart copy;
    grpc::ClientContext context;
  };

  void Run();
  // Waits for one to fetch, which is in `fetches_` from then on; null at the end.
  Fetch* Next() EXCLUDES_LOCK(mutex_);
  Fetch* BeginLocked() REQUIRES_LOCK(mutex_);
  bool MayFetchLocked(const v1::CopyPart& copy, std::chrono::nanoseconds now) const
      REQUIRES_LOCK(mutex_);
  bool IsWantedLocked(const v1::CopyPart& copy) const REQUIRES_LOCK(mutex_);
  absl::Status Copy(Fetch* fetch) EXCLUDES_LOCK(mutex_);
  void End(Fetch* fetch, const absl::Status& copied) EXCLUDES_LOCK(mutex_);

  const Parts parts_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<v1::CopyPart> wanted_ GUARDED_BY(mutex_);
  std::list<Fetch> fetches_ GUARDED_BY(mutex_);
  // What could not be fetched from an address, and until when (monotonic) it is not tried again.
  std::map<std::pair<PartKey, std::string>, std::chrono::nanoseconds> resting_ GUARDED_BY(mutex_);
  base::LogLimit failures_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace sinkforge::worker
