// A whole cluster on simulated time: the real Coordinator, a store, workers, clients, and a network
// that loses, repeats, delays and reorders messages within a stream.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "random.h"
#include "server/state/coordinator.h"
#include "sim_worker.h"

namespace sinkforge::sim {

// One in so many ticks or messages; 0: never.
struct Faults {
  int64_t lose_message = 0;
  int64_t repeat_message = 0;
  int64_t delay_ticks_max = 0;
  int64_t break_stream = 0;
  int64_t kill_worker = 0;
  int64_t drain_worker = 0;
  int64_t wipe_disk = 0;  // of a worker that was killed
  int64_t flip_disk = 0;  // it has no room for copies from then on, until the next time
  int64_t restart_coordinator = 0;
  // The store fails: nothing of the call is kept, and the coordinator is loaded anew.
  int64_t fail_store = 0;
  // The coordinator dies after its store has the call and before anybody hears of it.
  int64_t crash_after_store = 0;
  int64_t jump_clock = 0;   // the wall clock jumps by up to half an hour, either way
  int64_t slow_worker = 0;  // one in so many workers is ten times as slow as the others
  TrainerOptions trainer;
};

struct ClusterOptions {
  uint64_t seed = 1;
  int worker_count = 3;
  int slots_max = 3;
  int jobs_max = 12;
  server::CoordinatorOptions coordinator;
};

constexpr auto kTick = std::chrono::milliseconds(100);
constexpr int kSweepRunningMax = 2;  // of the one sweep there is

class SimCluster {
 public:
  explicit SimCluster(const ClusterOptions& options);
  ~SimCluster();

  // 100 ms of everything. `clients` makes random submissions and actions.
  enum class Clients { kAct, kQuiet };
  void Tick(const Faults& faults, Clients clients);
  // The faults are over: every worker starts again, every paused job is resumed.
  void Heal();
  // Keeps a copy of the coordinator's store; puts it back later, in a coordinator that is started
  // anew. What workers have then of its jobs, and is newer, must count a few leases later.
  void TakeBackup();
  void RestoreBackup();
  // Around a restore: one worker that has checkpoints of a job that the backup does not know is
  // away for a while; and, before any other has reported, jobs get the numbers of such ones.
  void SendHolderAway();
  void ReuseNumbers();
  void CheckRestored();
  bool AllJobsAreFinal() const;
  // Empty while every invariant holds; else what broke first, and when.
  const std::string& violation() const { return violation_; }
  std::string Summary() const;
  // What happened, to see that a run exercised what it should: attempts, commits and so on.
  const std::map<std::string, int64_t>& counters() const { return counters_; }

 private:
  struct ToCoordinator {
    int64_t due = 0;
    v1::WorkerSnapshot snapshot;
  };
  struct ToWorker {
    int64_t due = 0;
    v1::DesiredState desired;
  };
  struct Link {
    std::unique_ptr<SimWorker> worker;
    bool open = false;  // the stream, as the coordinator sees it
    int64_t next_report = 0;
    int64_t down_until = 0;  // the daemon
    bool slow = false;
    std::chrono::nanoseconds heard{0};  // when the coordinator took in the last snapshot
    std::string heard_incarnation;
    int64_t heard_sequence = -1;
    std::map<std::string, int64_t> parts_since;  // ticks since when the coordinator has heard of it
    std::deque<ToCoordinator> up;
    std::deque<ToWorker> down;
  };

  void ActAsClient();
  void Submit();
  void ActOnSettings();
  void TickLink(const Faults& faults, Link* link);
  void BreakStream(Link* link);
  void SayGoodbye(Link* link);
  void Deliver(Link* link);
  void NoteHeard(const v1::WorkerSnapshot& snapshot, Link* link);
  void RestartCoordinator();
  // Stores and checks what a call changed, then sends. False where the store failed.
  bool Apply(const server::Effects& effects);
  void Fail(const std::string& what);

  void CheckEffects(const server::Effects& effects);
  void CheckOwnership(const v1::Job& job);
  void CheckCommit(const v1::Job& before, const v1::Job& after);
  void CheckCopies(const v1::Job& job, const v1::Checkpoint& checkpoint);
  void CheckState();
  void CheckHolderWaits();
  void CheckDesired();
  void CheckEnd(const v1::Event& event);
  void CheckStart(const v1::Job& job);
  void CheckAvoidance(const v1::Job& job);
  void CheckLimits();
  void CheckReload();
  int64_t NewestStepOnDisks(const v1::Job& job) const;

  const ClusterOptions options_;
  Random random_;
  GangBoard board_;
  int64_t tick_ = 0;
  base::Now now_;
  std::unique_ptr<server::Coordinator> coordinator_;
  std::vector<Link> links_;
  Faults faults_;
  // The disk of the coordinator.
  std::map<std::string, v1::Job> stored_;
  int64_t next_job_number_ = 1;
  std::map<std::string, v1::Namespace> namespaces_;
  std::map<std::string, v1::WorkerDrain> drains_;
  std::map<std::string, v1::Job> backup_;
  int64_t backup_next_job_number_ = 1;
  std::map<std::string, int64_t> promised_steps_;  // by job
  std::chrono::nanoseconds loaded_{0};             // when the coordinator was
  // When the wall clock last was; what ends at a time of that clock is not to be judged for a
  // while.
  std::chrono::nanoseconds jumped_{-std::chrono::hours(1)};
  std::map<std::string, int> slots_before_;    // in use, by namespace, at the last step
  std::map<std::string, int64_t> last_event_;  // sequence
  // What clients were promised.
  std::map<std::string, std::string> acknowledged_;  // job by request
  std::set<std::string> deleted_;
  int64_t request_count_ = 0;
  int64_t uid_count_ = 0;
  std::string violation_;
  std::map<std::string, int64_t> counters_;
};

}  // namespace sinkforge::sim
