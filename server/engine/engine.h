// Engine: the one thread that owns the Coordinator. Calls are queued; the thread takes all that
// wait, applies them, writes what they changed in one synced batch, and only then answers them,
// sends workers what changed and tells watchers. The time is read here and handed on.
//
// Where the store cannot be written, every call of the group gets UNAVAILABLE and the Coordinator
// is built again from what is stored: nothing is acknowledged that is not kept, and nothing is kept
// in memory that was not acknowledged. Workers then report everything again.
//
// Until a small write succeeds, which is tried again and again, nothing is changed: readers see
// what is stored, and of workers what they say of themselves.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "server/engine/bounded_queue.h"
#include "server/engine/job_store.h"
#include "server/state/coordinator.h"

namespace sinkforge::server {

// The way to one connected worker daemon, called from the engine's thread; must not block.
struct WorkerLink {
  // A newer state replaces one that is not sent yet.
  std::function<void(v1::DesiredState)> send;
  std::function<void(const absl::Status&)> close;
};

struct EngineOptions {
  CoordinatorOptions coordinator;
  std::chrono::nanoseconds tick = std::chrono::milliseconds(100);
  QueueLimits queue = {8192, 256 << 20};
  int64_t reads_waiting_max = 4096;  // leaves half of the queue to what changes something
  // After a failed write or load; keeps a full disk from costing a reload per call.
  std::chrono::nanoseconds retry_after = std::chrono::seconds(1);
  // Where nothing was written for so long, the store is asked whether it could be.
  std::chrono::nanoseconds probe_every = std::chrono::seconds(1);
};

// Histograms in seconds; both outlive the engine.
struct EngineMetrics {
  base::Histogram* store_write = nullptr;
  base::Histogram* scheduling = nullptr;
};

class Engine {
 public:
  // Changes the Coordinator; an error means that nothing was changed.
  using Apply = std::function<absl::Status(Coordinator&, const base::Now&, Effects*)>;
  using Done = std::function<void(const absl::Status&)>;
  using View = std::function<void(const Coordinator&, const base::Now&)>;
  using OnCommit = std::function<void(const Coordinator&, const Effects&)>;

  // All outlive the engine. `on_commit` is called on the engine's thread, after the store has what
  // changed, and before callers hear of it.
  Engine(const EngineOptions& options, JobStore* store, const base::Clock* clock,
         const EngineMetrics& metrics, OnCommit on_commit);
  // Stops.
  ~Engine();

  // Loads what is stored and starts the thread; once. The store's error where it cannot be read.
  absl::Status Start();
  // Answers what is queued, then ends the thread. Calls that come later get UNAVAILABLE.
  void Stop();

  // `done` is called once, with `apply`'s status when what it changed is durable. `apply` does not
  // run, or its change is not kept, with RESOURCE_EXHAUSTED (too much is waiting) and UNAVAILABLE
  // (the store cannot be written; shutting down). `bytes`: size of what the closures hold.
  void Mutate(Apply apply, Done done, int64_t bytes);

  // Calls `view` with a Coordinator whose state is durable, or else `failed`; from the engine's
  // thread, or at once. Views must be short: copy, compute elsewhere.
  void Read(View view, Done failed);

  // The same on the caller's thread, which waits. Not from the engine's thread.
  absl::Status ReadAndWait(const View& view);

  // By name. While the store cannot be written, what the workers say of themselves. Only from a
  // view, with what it was called with.
  std::vector<v1::Worker> Workers(const Coordinator& coordinator, const base::Now& now) const;

  // OK, or why the store cannot be written. From any thread.
  absl::Status store_failure() const EXCLUDES_LOCK(failure_mutex_);
  // Told at once, and whenever this changes, on some thread and under a lock: it must not call
  // back. Null ends it, and when this returns no call is under way.
  void OnStoreFailure(std::function<void(const absl::Status& failure)> tell)
      EXCLUDES_LOCK(failure_mutex_);

  // One snapshot of a worker. With OK the link is the worker's; another link that it had is closed.
  void Synchronize(std::shared_ptr<WorkerLink> link, v1::WorkerSnapshot snapshot, Done done);
  // The link is gone. Nothing happens where the worker has another one already.
  void Disconnect(const std::shared_ptr<WorkerLink>& link);
  // Closes every link, and those that come later.
  void CloseLinks(const absl::Status& status);

 private:
  struct Item {
    Apply apply;  // a mutation
    View view;    // or a read
    Done done;    // failed, for a read
    absl::Status status;
    // What `apply` is to take in, if it is that.
    std::shared_ptr<const v1::WorkerSnapshot> snapshot = nullptr;
  };
  struct Link {
    std::shared_ptr<WorkerLink> link;
    std::string incarnation;
    std::chrono::nanoseconds sent{-1};  // when the last state was; -1: never on this link
  };

  void Push(Item item, int64_t bytes, Lane lane = Lane::kPrompt);
  void Loop();
  void Process(std::vector<Item>* group);
  void Change(std::vector<Item>* group, const base::Now& now, Effects* effects);
  absl::Status Commit(const Effects& effects);
  void Publish(const Effects& effects, const base::Now& now);
  absl::Status Load(const base::Now& now);
  void Recover(const absl::Status& cause, const base::Now& now);
  void Probe(const base::Now& now);
  void NoteStore(const absl::Status& status, const base::Now& now);
  void NoteRefused(const v1::WorkerSnapshot& snapshot, const base::Now& now);
  absl::Status TakeSnapshot(const std::shared_ptr<WorkerLink>& link,
                            const v1::WorkerSnapshot& snapshot, Coordinator& coordinator,
                            const base::Now& now, Effects* effects);

  const EngineOptions options_;
  JobStore* const store_;
  const base::Clock* const clock_;
  const EngineMetrics metrics_;
  const OnCommit on_commit_;
  BoundedQueue<Item> queue_;
  std::atomic<int64_t> reads_waiting_{0};
  std::thread thread_;

  // Of the engine's thread alone, once it runs.
  std::unique_ptr<Coordinator> coordinator_;  // null: it could not be loaded again yet
  std::map<std::string, Link> links_;         // by worker
  std::set<std::string> reported_;            // workers whose snapshot is in this group
  absl::Status links_closed_;                 // not OK: why every link is closed
  absl::Status failure_;                      // not OK: why every change is refused
  std::chrono::nanoseconds next_probe_{0};
  std::chrono::nanoseconds next_tick_{0};
  // Workers as they were, and are, since the store failed; each until it has reported to the
  // Coordinator that was loaded afterwards, or its lease there is over.
  std::map<std::string, v1::Worker> unrecorded_;
  std::chrono::nanoseconds forget_unrecorded_at_{0};

  mutable base::Mutex failure_mutex_;
  absl::Status store_failure_ GUARDED_BY(failure_mutex_);  // of `failure_`
  std::function<void(const absl::Status&)> tell_failure_ GUARDED_BY(failure_mutex_);
};

// The job as readers see it: with the present reason and message.
v1::Job ViewOf(const Coordinator& coordinator, const v1::Job& job, const base::Now& now);

// SUCCEEDED, FAILED or CANCELLED.
bool IsFinal(v1::JobState state);

}  // namespace sinkforge::server
