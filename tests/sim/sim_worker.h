// A worker daemon with its trainers, simulated: it follows the worker protocol as the real one
// must, on simulated time, and fails in every way that the simulation asks for.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "random.h"
#include "sinkforge/v1/worker_service.pb.h"

namespace sinkforge::sim {

// How long things take, in ticks, and how often they go wrong (once in so many ticks; 0: never).
struct TrainerOptions {
  int64_t load_ticks = 3;
  int64_t step_ticks = 2;
  int64_t checkpoint_every = 5;      // steps
  int64_t checkpoint_ticks_max = 3;  // from the snapshot until the part is durable
  int64_t crash_one_in = 0;
  int64_t hang_one_in = 0;
  int64_t fatal_one_in = 0;
  int64_t bad_data_one_in = 0;  // of the ticks before it trains
};

// "job/attempt/step/rank"
std::string PartKey(const v1::CheckpointPart& part);

// What the collectives between the ranks of a gang bring about: steps in lockstep, and one step at
// which all of them stop.
class GangBoard {
 public:
  // Whether the rank may take the step after `step`: all peers have done `step`.
  bool MayStep(const v1::DesiredRank& rank, int64_t step);
  // The step at which the gang stops; the first rank that is asked to stop fixes it.
  int64_t StopStep(const v1::DesiredRank& rank, int64_t step, bool is_asked);

 private:
  struct Gang {
    std::map<int32_t, int64_t> step;
    int64_t stop_step = INT64_MAX;
  };
  Gang& GangOf(const v1::DesiredRank& rank) {
    return gangs_[{rank.job_id(), rank.job_uid(), rank.attempt()}];
  }

  std::map<std::tuple<std::string, std::string, int64_t>, Gang> gangs_;  // job, uid, attempt
};

class SimWorker {
 public:
  SimWorker(std::string name, int slots, GangBoard* board, Random* random);

  // The daemon starts, with what its disk holds; a running one is killed first.
  void Start();
  void Kill();
  // SIGTERM: no new work; leaves when its ranks have ended and nobody waits for it.
  void Drain();
  void WipeDisk();
  bool is_running() const { return running_; }
  bool drained() const { return running_ && draining_ && ranks_.empty(); }
  bool may_leave() const { return drained() && leave_ == v1::LEAVE_NOW; }

  // Stale ones are ignored. Returns what is wrong with it, empty where it can be followed.
  std::string Apply(const v1::DesiredState& desired);
  void Tick(const TrainerOptions& options);
  // Fetches what it is to copy from `holder`, some time.
  void CopyFrom(const SimWorker& holder);
  // There is no room for copies on its disk, or there is again.
  void FlipDisk() { disk_full_ = !disk_full_; }
  // The coordinator's store is an older one from now on: it does not know what runs in which slot.
  void NoteRestore();
  v1::WorkerSnapshot Snapshot();

  bool draining() const { return draining_; }
  std::vector<v1::CheckpointPart> Parts() const;  // on disk
  const std::string& name() const { return name_; }
  const std::string& incarnation() const { return incarnation_; }
  // On disk now, or it was when the disk was wiped: nobody can know of that before the next report.
  bool HasPart(const v1::CheckpointPart& part) const;

 private:
  using RankKey = std::tuple<std::string, int64_t, int32_t>;  // job, attempt, rank
  struct Rank {
    v1::RankStatus status;
    v1::DesiredRank desired;
    int64_t ticks = 0;        // in the phase or step
    int64_t kill_ticks = -1;  // left until the process is gone; -1: not being killed
    bool hangs = false;
    bool is_forgotten = false;  // it may run on in its slot while another rank waits for that
    std::optional<int64_t> writing_step;
    int64_t writing_ticks = 0;
    bool ends_after_write = false;

    bool runs() const { return status.phase() != v1::RANK_PHASE_ENDED; }
  };

  // By a rank that the coordinator has forgotten: a new one then waits, as in reconcile.h.
  bool IsTaken(int32_t slot) const;
  void TickRank(const TrainerOptions& options, Rank* rank);
  void Train(const TrainerOptions& options, Rank* rank);
  void BeginWrite(const TrainerOptions& options, Rank* rank);
  void FinishWrite(Rank* rank);
  void End(Rank* rank, v1::RankOutcome outcome, v1::Reason reason);

  const std::string name_;
  const int slots_;
  GangBoard* const board_;
  Random* const random_;
  int64_t starts_ = 0;
  bool running_ = false;
  bool draining_ = false;
  v1::Leave leave_ = v1::LEAVE_UNSPECIFIED;
  std::string incarnation_;
  int64_t report_sequence_ = 0;
  int64_t applied_revision_ = 0;
  std::map<RankKey, Rank> ranks_;
  std::map<std::string, v1::CheckpointPart> disk_;
  std::set<std::string> wiped_;  // keys
  bool disk_full_ = false;
  std::vector<v1::CheckpointPart> to_copy_;
};

}  // namespace sinkforge::sim
