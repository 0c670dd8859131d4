// PartCopier: fetches the checkpoint parts that the coordinator wants a second copy of, one after
// the other, on a thread of its own. What cannot be fetched is tried again as long as it is wanted.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "sinkforge/v1/worker_service.pb.h"
#include "worker/store/checkpoint_store.h"
#include "worker/wakeup.h"

namespace sinkforge::worker {

// Thread-safe.
class PartCopier {
 public:
  struct Parts {
    CheckpointStore* checkpoints = nullptr;  // not owned
    std::function<void()> on_copied;         // a part became durable here
    std::chrono::milliseconds retry{1000};
  };
  explicit PartCopier(Parts parts);
  ~PartCopier();
  PartCopier(const PartCopier&) = delete;
  PartCopier& operator=(const PartCopier&) = delete;

  // The whole list, every time. Impossible names and numbers are refused when they are fetched.
  void SetWanted(std::vector<v1::CopyPart> wanted) EXCLUDES_LOCK(mutex_);

 private:
  void Run();
  std::vector<v1::CopyPart> Wanted() const EXCLUDES_LOCK(mutex_);
  bool IsWanted(const v1::CopyPart& copy) const EXCLUDES_LOCK(mutex_);
  bool IsWantedLocked(const v1::CopyPart& copy) const REQUIRES_LOCK(mutex_);
  absl::Status Copy(const v1::CopyPart& copy) EXCLUDES_LOCK(mutex_);

  const Parts parts_;
  Wakeup wakeup_;
  mutable base::Mutex mutex_;
  std::vector<v1::CopyPart> wanted_ GUARDED_BY(mutex_);
  // The one that is being fetched, and its call; null between two.
  v1::CopyPart current_ GUARDED_BY(mutex_);
  grpc::ClientContext* call_ GUARDED_BY(mutex_) = nullptr;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace sinkforge::worker
