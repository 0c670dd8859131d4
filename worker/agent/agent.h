// Agent: the worker's state and its one owner. The coordinator's wishes, the trainers' reports and
// the ends of processes come in; launches, kills and snapshots go out. It owns no thread and reads
// no clock: the daemon's loop calls Tick, gRPC handlers call the rest.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "sinkforge/v1/trainer_service.pb.h"
#include "sinkforge/v1/worker_service.pb.h"
#include "worker/agent/launch.h"
#include "worker/agent/rank_state.h"
#include "worker/agent/reconcile.h"
#include "worker/store/checkpoint_store.h"
#include "worker/wakeup.h"

namespace sinkforge::worker {

struct AgentOptions {
  std::string worker;
  std::string incarnation;
  std::string address;
  std::string metrics_address;
  std::string version;
  std::string processor;
  std::vector<std::string> data_roots;
  int32_t cpu_slots = 1;
  int32_t gpu_slots = 0;  // numbered after the CPU slots; each is one GPU
  Patience patience;
};

// What an exporter or a test may know of a rank.
struct RankView {
  RankKey key;
  v1::RankStatus status;
  v1::DesiredRank desired;
  v1::StepRecord last_step;              // step 0: none yet
  std::optional<double> imbalance_mean;  // see ImbalanceTrend
  std::optional<double> imbalance_least;
  int64_t checkpoint_step = 0;  // of the newest durable checkpoint; 0: none. Filled by the daemon.
};

// Thread-safe.
class Agent {
 public:
  struct Parts {
    // Exactly one OnExit follows each launch, on another thread. `kill` ends a launched trainer for
    // good. Both return at once.
    std::function<void(const LaunchRequest&)> launch;
    std::function<void(const RankKey&)> kill;
    CheckpointStore* checkpoints = nullptr;  // not owned
    Wakeup* loop = nullptr;                  // not owned: told when Tick has something to do
    // Called when a snapshot should go out: at once (a phase, an end, a part), or with others.
    enum class Urgency { kSoon, kNow };
    std::function<void(Urgency)> on_news;
    // The parts that the coordinator wants fetched from other workers: the whole list.
    std::function<void(std::vector<v1::CopyPart>)> on_copies;
    // Called once for each rank that ends, with the lock held: it must not call back.
    std::function<void(const v1::RankStatus&)> on_end;
  };
  Agent(AgentOptions options, Parts parts);

  // A new stream to the coordinator: what an older one said is not applied any more.
  void OnStreamOpened() EXCLUDES_LOCK(mutex_);
  // From the coordinator, on the present stream. An older revision than the last is ignored; ranks
  // with impossible names or numbers are left out and logged.
  void SetDesired(const v1::DesiredState& desired) EXCLUDES_LOCK(mutex_);
  // Carries out what is due: spawns, kills, drops checkpoints, gives up on hung trainers.
  void Tick(const base::Now& now) EXCLUDES_LOCK(mutex_);
  // The whole state, with the next report_sequence. `disk_free_bytes`: for checkpoints, without
  // what stays in reserve.
  v1::WorkerSnapshot Snapshot(int64_t disk_free_bytes) EXCLUDES_LOCK(mutex_);
  // No new trainers; those that run checkpoint and stop.
  void Drain() EXCLUDES_LOCK(mutex_);
  // The grace period is over.
  void KillAll() EXCLUDES_LOCK(mutex_);
  void OnExit(const RankKey& key, const TrainerExit& exit) EXCLUDES_LOCK(mutex_);
  // A part became durable, or space on disk changed.
  void OnStoreChange() { parts_.on_news(Parts::Urgency::kNow); }

  // Ranks whose process may be there.
  int running() const EXCLUDES_LOCK(mutex_);
  // Ranks that ended and that the coordinator has not dropped.
  int unacknowledged() const EXCLUDES_LOCK(mutex_);
  // The coordinator's last word of leaving, also while it is away.
  v1::Leave leave() const EXCLUDES_LOCK(mutex_);
  // Checkpoints that no other worker had which stays, as of then.
  int64_t only_copies() const EXCLUDES_LOCK(mutex_);
  std::vector<RankView> Ranks() const EXCLUDES_LOCK(mutex_);

  // For the trainer's service. FAILED_PRECONDITION: the token is unknown or its attempt is over;
  // the trainer must exit without writing anything more.
  absl::StatusOr<v1::Assignment> Assign(const std::string& token) const EXCLUDES_LOCK(mutex_);
  absl::StatusOr<RankKey> Authenticate(const std::string& token) const EXCLUDES_LOCK(mutex_);
  absl::StatusOr<v1::TrainerCommand> Report(const v1::TrainerReport& report, const base::Now& now)
      EXCLUDES_LOCK(mutex_);
  // A report came, whether or not its records can be kept: the trainer lives. Records that come
  // are progress of every rank of the job here, which wait for one another: while this worker keeps
  // none of them, it holds the training up itself.
  void OnReportArrived(const v1::TrainerReport& report, const base::Now& now) EXCLUDES_LOCK(mutex_);
  // The report's records were refused for this reason; the trainer sends them again. Until then the
  // rank's status says so.
  void OnReportNotKept(const std::string& token, const absl::Status& why) EXCLUDES_LOCK(mutex_);
  // Bytes of a checkpoint moved: no step, but progress.
  void OnCheckpointBytes(const std::string& token, const base::Now& now) EXCLUDES_LOCK(mutex_);

 private:
  const RankState* FindLocked(const std::string& token) const REQUIRES_LOCK(mutex_);
  WorkerView ViewLocked() const REQUIRES_LOCK(mutex_);
  // While a trainer starts, a holder of its checkpoint may be started anew elsewhere.
  void TakeHoldersLocked(const v1::DesiredRank& wanted) REQUIRES_LOCK(mutex_);
  void SpawnLocked(const v1::DesiredRank& desired, const base::Now& now) REQUIRES_LOCK(mutex_);
  void RefuseLocked(const Plan::Refusal& refusal, const base::Now& now) REQUIRES_LOCK(mutex_);
  void KillLocked(KillCause cause, RankState* rank) REQUIRES_LOCK(mutex_);
  void EndLocked(const TrainerExit& exit, RankState* rank) REQUIRES_LOCK(mutex_);

  const AgentOptions options_;
  const Parts parts_;
  mutable base::Mutex mutex_;
  std::map<RankKey, RankState> ranks_ GUARDED_BY(mutex_);
  std::map<std::string, RankKey> tokens_ GUARDED_BY(mutex_);
  v1::DesiredState desired_ GUARDED_BY(mutex_);
  bool has_desired_ GUARDED_BY(mutex_) = false;  // desired_ came on the present stream
  int64_t applied_revision_ GUARDED_BY(mutex_) = 0;
  bool draining_ GUARDED_BY(mutex_) = false;
  int64_t report_sequence_ GUARDED_BY(mutex_) = 0;
};

}  // namespace sinkforge::worker
