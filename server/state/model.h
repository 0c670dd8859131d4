// What the coordinator knows, in memory: jobs with their attempts, workers, and the indexes over
// them. Everything here that a restart must bring back is inside v1::Job; the rest is rebuilt from
// that or learnt again from the workers' snapshots.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/scheduler/scheduler.h"
#include "server/state/coordinator.h"
#include "sinkforge/v1/job.pb.h"
#include "sinkforge/v1/worker_service.pb.h"

namespace sinkforge::server {

using Monotonic = std::chrono::nanoseconds;

struct RankKey {
  std::string job_id;
  int64_t attempt = 0;
  int32_t rank = 0;
  auto operator<=>(const RankKey&) const = default;
};

struct PartKey {
  std::string job_id;
  int64_t attempt = 0;
  int64_t step = 0;
  int32_t rank = 0;
  auto operator<=>(const PartKey&) const = default;
};

// One rank of the attempt under way, as its worker last reported it.
struct RankState {
  v1::RankPlacement placement;
  bool seen = false;  // the worker has reported it at least once
  v1::RankPhase phase = v1::RANK_PHASE_UNSPECIFIED;
  v1::RankOutcome outcome = v1::RANK_OUTCOME_UNSPECIFIED;  // with ENDED
  v1::Reason reason = v1::REASON_UNSPECIFIED;
  std::string message;  // of its end; before it, why its worker holds it up, or nothing
  int64_t step = 0;

  bool ended() const { return phase == v1::RANK_PHASE_ENDED; }
};

// The gang of a STARTING or RUNNING job.
struct Attempt {
  std::vector<RankState> ranks;  // by rank
  bool loaded = false;           // from the store: an earlier coordinator has started it
  Monotonic started{0};
  Monotonic last_progress{0};
  // A rank said that it lost its peers: the attempt ends then, or as soon as a peer says why.
  std::optional<Monotonic> cause_deadline;
  // It was asked to stop, and is ended then if it has not.
  std::optional<Monotonic> stop_deadline;
};

// Where a QUEUED job waits.
enum class Waiting { kNot, kReady, kBackingOff, kParked, kHeldBySweep };

struct JobRecord {
  int64_t number = 0;
  v1::Job job;
  std::optional<Attempt> attempt;  // exactly while the state HasAttempt
  Monotonic stored_at{0};          // of the last effect that stored it
  Waiting waiting = Waiting::kNot;
  scheduler::WaitingJob waiting_job;   // while it waits
  std::vector<std::string> parked_on;  // missing holders, while parked
  Monotonic not_before{0};             // while backing off
  // Durable but uncommitted parts of the last attempt, by step and rank: one of each holder.
  std::map<int64_t, std::map<int32_t, std::vector<v1::CheckpointPart>>> pending;
  // Steps of `pending` of which every rank has a part, and until when they may wait for second
  // copies. Between two calls only while an attempt is under way.
  std::map<int64_t, Monotonic> commit_deadlines;
  int64_t complete_step_max = 0;  // of all that were ever in there
  // Attempt and step of checkpoints that were lost, or deleted as the newest. Their parts are
  // dropped: a late report of some does not bring one back.
  std::set<std::pair<int64_t, int64_t>> lost;
  // The last attempt that workers know of, where that is later than the job's: its number is taken.
  int64_t later_attempt = 0;
  // When what they hold of later attempts is adopted. The job starts none before.
  std::optional<Monotonic> adoption;
};

// What a worker has of a checkpoint of a job that is not the one which has that name and number
// here: that was submitted after the backup from which the coordinator was restored.
struct StrayCheckpoint {
  std::string job_id;
  int64_t attempt = 0;
  int64_t step = 0;
  std::string job_uid;
  auto operator<=>(const StrayCheckpoint&) const = default;
};

// A rank that was taken back from a worker and may still run there.
struct Removal {
  RankKey key;
  int32_t slot = 0;
  int64_t revision = 0;  // of the first DesiredState without it
  bool seen = false;
};

// A durable checkpoint part, as its worker reported it.
struct HeldPart {
  v1::CheckpointPart part;
  int64_t report = 0;  // the last that had it, of WorkerRecord::part_reports
};

struct WorkerRecord {
  std::string name;
  std::string incarnation;
  std::deque<std::string> retired;  // earlier incarnations, the latest last
  bool reported = false;            // to this Coordinator
  bool connected = false;           // its stream is open
  bool alive = true;                // its lease runs
  bool drained = false;             // by the user
  bool silent = false;              // it is to copy, and has missed a report or two
  Monotonic lease_end{0};
  Monotonic heard{0};  // its last report
  Monotonic lost_at{0};
  std::chrono::system_clock::time_point last_seen;
  int64_t report_sequence = -1;
  int64_t revision = 0;         // of Desired
  v1::WorkerSnapshot snapshot;  // the last, without its parts
  std::map<PartKey, HeldPart> parts;
  int64_t part_reports = 0;
  // Of `parts`: all but those of committed checkpoints that list them, about which there is nothing
  // to decide. They are most of what a worker holds.
  std::set<PartKey> unsettled;
  std::set<StrayCheckpoint> strays;     // to drop; their parts are not in `parts`
  std::map<int32_t, RankKey> assigned;  // by slot: ranks of attempts under way, ended ones too
  std::vector<Removal> removals;
  std::map<PartKey, int64_t> copying;       // to fetch from their holders, with their bytes
  v1::Leave leave = v1::LEAVE_UNSPECIFIED;  // what it is told while it is being stopped
  int64_t only_copies = 0;                  // when that was said
  int64_t bytes_refused = 0;                // of the least that it had no room for; 0: of nothing

  bool leaving() const { return drained || snapshot.draining(); }
  bool takes_work() const { return reported && alive && !leaving(); }
  // It was stopped in order, and has said its last word.
  bool left() const { return snapshot.goodbye(); }
};

// The workers that take work, by what they hold and are to fetch: where the next copy goes is found
// without looking at all of them. And those that are being stopped.
class Takers {
 public:
  using Key = std::pair<size_t, std::string>;  // parts, worker

  // After any change of the worker that counts here.
  void Update(const WorkerRecord& worker);
  // The least loaded first, then by name.
  const std::set<Key>& by_load() const { return by_load_; }
  int count() const { return static_cast<int>(by_load_.size()); }
  const std::set<std::string>& stopping() const { return stopping_; }

 private:
  std::unordered_map<std::string, size_t> load_;
  std::set<Key> by_load_;
  std::set<std::string> stopping_;
};

// A worker that the user has given up, for a repeat of the same request.
struct ForgottenWorker {
  std::string name;
  std::string request_id;
  int64_t checkpoints_lost = 0;
};

// A committed checkpoint of a job.
struct CheckpointKey {
  int64_t number = 0;  // of the job
  int64_t attempt = 0;
  int64_t step = 0;
  auto operator<=>(const CheckpointKey&) const = default;
};

// A sweep that runs only so many jobs at a time. Who is ready or has an attempt under way is
// admitted; the others are held out of the queue.
struct SweepGate {
  size_t running_max = 0;
  std::set<int64_t> admitted;
  std::map<scheduler::QueueKey, int64_t> held;
  std::set<int64_t> left;  // admitted ones to look at again
};

struct State {
  explicit State(const CoordinatorOptions& o) : options(o) {}

  CoordinatorOptions options;
  int64_t next_job_number = 1;
  std::map<int64_t, JobRecord> jobs;  // by number
  std::map<std::string, WorkerRecord> workers;

  // Indexes.
  std::unordered_map<std::string, int64_t> number_by_request;
  std::array<int64_t, v1::JobState_ARRAYSIZE> count_by_state{};
  std::set<int64_t> active;  // jobs with an attempt under way
  scheduler::Cluster cluster;
  std::map<std::string, SweepGate> sweeps;  // by name; no empty ones
  std::set<std::string> sweeps_left;        // those whose `left` is not empty
  std::set<std::pair<std::chrono::system_clock::time_point, int64_t>> deadlines;
  std::map<std::string, v1::WorkerDrain> drains;  // by worker
  std::set<std::pair<Monotonic, int64_t>> backing_off;
  std::map<std::string, std::set<int64_t>> parked;               // by missing holder
  std::map<std::string, std::set<CheckpointKey>> held;           // by holder
  std::deque<std::pair<std::string, std::string>> deleted_jobs;  // job id, request id: the latest
  std::deque<ForgottenWorker> forgotten;                         // the latest
  Takers takers;
  std::set<int64_t> thin;          // jobs with a checkpoint of which a part is on one worker only
  std::set<int64_t> thin_to_plan;  // those of which some part is neither copied nor being fetched
  std::map<PartKey, std::string> copying;  // what is to be fetched, and by which worker
  bool plan_copies = false;                // `thin_to_plan` is to be looked at
  bool replan_copies = false;              // and all of `thin`: a worker came or went
  bool recheck_leaves = false;             // whether workers that are being stopped may go
  // All `commit_deadlines`: deadline, job, step.
  std::set<std::tuple<Monotonic, int64_t, int64_t>> commits;
  std::set<int64_t> commits_to_check;  // jobs of which something changed about one
  bool recheck_commits = false;        // all are to be looked at: a worker came or went
  std::set<int64_t> adoptions;         // jobs with an `adoption`
  // Workers that the store speaks of: for a lease after the start they are expected to come back.
  std::set<std::string> expected;
  Monotonic expected_until{0};

  JobRecord* Find(const std::string& job_id);
  const JobRecord* Find(const std::string& job_id) const;
  WorkerRecord* FindWorker(const std::string& name);
  const WorkerRecord* FindWorker(const std::string& name) const;
};

// Ranks of the current or last attempt; before the first, those that it asks for.
int WorldSize(const v1::Job& job);
// False where the part, which says that it is of this job, is of another one that had its name and
// number. A part without a uid is from before there were any, or of a worker that knows none.
bool MayBeOf(const v1::Job& job, const v1::CheckpointPart& part);
// The newest one that is not going away; null where there is none.
const v1::Checkpoint* NewestCheckpoint(const v1::Job& job);
v1::Checkpoint* NewestCheckpoint(v1::Job* job);
// What the current attempt starts from: the newest one of an earlier attempt.
const v1::Checkpoint* RestoreOf(const v1::Job& job);
// Of the parts and of their copies; sorted, each once.
std::vector<std::string> HoldersOf(const v1::Checkpoint& checkpoint);
// Where the parts are read first; sorted, each once.
std::vector<std::string> FirstHoldersOf(const v1::Checkpoint& checkpoint);
// The ranks are to checkpoint and stop: the user pauses the job, the scheduler stops it, or one of
// its workers drains.
bool IsToStop(const State& state, const JobRecord& record);

enum class PartFate { kCommitted, kPending, kDrop };
PartFate FateOf(const State& state, const PartKey& key);

}  // namespace sinkforge::server
