// Coordinator: the pure state machine over jobs, attempts, workers and checkpoints. It does no
// input or output, knows no clock and starts no thread: whoever owns it brings messages and the
// time, and stores what comes back.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "sinkforge/v1/job.pb.h"
#include "sinkforge/v1/job_service.pb.h"
#include "sinkforge/v1/worker_service.pb.h"

namespace sinkforge::server {

// Where an event happened, where that is one place: for the log.
struct EventPlace {
  std::string worker;  // empty: nowhere, or at several
  std::optional<int32_t> rank;
};

// A worker that came or went, for the log.
struct WorkerNote {
  enum class Kind {
    kJoined,     // its first report to this Coordinator, or the first since it was started anew
    kReturned,   // heard of again after its lease had ended
    kLost,       // its lease has ended
    kLeft,       // the same, of one that had been stopped in order
    kForgotten,  // it was away, and a user has given it up
  };
  Kind kind = Kind::kJoined;
  std::string worker;
  std::string address;
  int slots = 0;
};

// What one call changed. The owner stores jobs, events, deletions and the next job number in one
// synced batch before anything is acknowledged or sent: before it answers the call, sends a
// DesiredState or tells a watcher. One Effects may collect several calls.
struct Effects {
  std::vector<v1::Job> jobs;              // to store, whole records; each job once, its last value
  std::vector<v1::Event> events;          // new, with their sequence
  std::vector<std::string> deleted_jobs;  // with all their events, history and logs
  std::optional<int64_t> next_job_number;
  std::vector<v1::Namespace> namespaces;                         // settings to store
  std::map<std::string, std::optional<v1::WorkerDrain>> drains;  // by worker; absent: to delete
  // Of some of `events`, by job and sequence; not stored.
  std::map<std::pair<std::string, int64_t>, EventPlace> event_places;
  std::vector<WorkerNote> worker_notes;      // not stored
  std::vector<std::string> changed_workers;  // whose Desired() changed: send it now; sorted
  std::vector<std::string> changed_jobs;  // for watchers, sorted. Progress alone is here at every
                                          // report, but in `jobs` only every few seconds.

  bool NeedsStore() const {
    return !jobs.empty() || !events.empty() || !deleted_jobs.empty() ||
           next_job_number.has_value() || !namespaces.empty() || !drains.empty();
  }
};

struct CoordinatorOptions {
  std::chrono::nanoseconds lease = std::chrono::seconds(5);
  // What workers are told; at most a third of the lease, so that two lost snapshots do no harm.
  std::chrono::nanoseconds snapshot_interval = std::chrono::seconds(1);
  // From the assignment of slots to the first report of training.
  std::chrono::nanoseconds start_timeout = std::chrono::minutes(15);
  // Between two steps; longer than an evaluation over a large validation text.
  std::chrono::nanoseconds no_progress_timeout = std::chrono::minutes(15);
  // Progress alone is stored this often: a crash loses only numbers that the next report repeats.
  std::chrono::nanoseconds progress_store_interval = std::chrono::seconds(5);
  // A lost worker leaves the list after this long; one that was stopped, with its lease.
  std::chrono::nanoseconds forget_worker_after = std::chrono::hours(24);
  // Attempts that may fail, one budget per kind of cause, without a new checkpoint in between.
  int infrastructure_retries = 20;
  int crash_retries = 3;
  int no_progress_retries = 2;
  int bad_batch_retries = 10;
  int unfit_worker_retries = 2;  // each on another worker
  // Doubled at every failure of a kind. The first infrastructure failure is retried at once.
  std::chrono::nanoseconds backoff_first = std::chrono::seconds(1);
  std::chrono::nanoseconds backoff_max = std::chrono::minutes(2);
  // An attempt that was asked to checkpoint and stop, for a more important job or at its deadline,
  // is ended after this long.
  std::chrono::nanoseconds stop_grace = std::chrono::minutes(2);
  // How long a checkpoint that is durable on one worker waits for its copy on another before it is
  // committed all the same: so long, and a second more for every 100 MB.
  std::chrono::nanoseconds commit_patience = std::chrono::seconds(5);
  // An elastic attempt is not stopped earlier to go on with more ranks.
  std::chrono::nanoseconds grow_after = std::chrono::seconds(60);
  // A worker where a job failed is the last choice for it for this long.
  std::chrono::nanoseconds avoid_worker_for = std::chrono::minutes(10);
  // Namespaces with settings, and those that jobs wait in; the scheduler compares their heads.
  int namespace_count_max = 1000;
  int64_t queue_max = 100000;       // waiting jobs; a submission beyond gets RESOURCE_EXHAUSTED
  int worker_count_max = 1000;      // known workers; one more gets RESOURCE_EXHAUSTED
  int slots_per_worker_max = 1024;  // a snapshot with more gets INVALID_ARGUMENT
  // Ranks plus checkpoint parts of one snapshot; more gets INVALID_ARGUMENT.
  int snapshot_entries_max = 200000;
};

// What a job gets with its submission, beside what the client says.
struct JobFacts {
  int64_t parameters = 0;  // of its model
  std::string uid;         // random: no other job has ever had it
};

// Why a job is where it is, for people and machines.
struct Explanation {
  v1::Reason reason = v1::REASON_UNSPECIFIED;
  std::string message;
};

// One owner, one thread at a time. Every call that changes something takes the time and an Effects
// (never null) and also runs the scheduler, so that a submission starts at once where slots are
// free. An owner whose store fails throws the Coordinator away, Loads another from the store and
// closes the workers' streams: nothing else is lost, workers report everything again.
//
// Invariants: a slot never runs two attempts; an attempt that lost a rank is over; only a job's
// last attempt commits checkpoints; all that cannot be learnt again from workers is in v1::Job.
class Coordinator {
 public:
  explicit Coordinator(const CoordinatorOptions& options);
  ~Coordinator();
  Coordinator(Coordinator&&) noexcept;
  Coordinator& operator=(Coordinator&&) noexcept;

  // Settings that were stored. Once, before Load.
  void LoadSettings(const std::vector<v1::Namespace>& namespaces,
                    const std::vector<v1::WorkerDrain>& drains);
  // Once, before the calls below, with what was stored (any order). Attempts that were under way
  // keep their number and placement and wait a fresh lease for their workers to report; nothing is
  // restarted. Nothing is scheduled before the first call that takes an Effects.
  void Load(std::vector<v1::Job> jobs, int64_t next_job_number, const base::Now& now);

  // `request.spec` is resolved and validated; `validate_only` is the caller's. A known request_id
  // returns its job and changes nothing.
  // INVALID_ARGUMENT: no request_id. RESOURCE_EXHAUSTED: the queue is full.
  absl::StatusOr<v1::Job> Submit(const v1::SubmitJobRequest& request, const JobFacts& facts,
                                 const base::Now& now, Effects* effects);

  // Each is done once per request_id (of the job's last ones). NOT_FOUND; FAILED_PRECONDITION where
  // the job's state has no such move.
  //
  // The job is CANCELLED when it returns; its slots are free when the workers have confirmed.
  absl::StatusOr<v1::Job> Cancel(const v1::JobActionRequest& request, const base::Now& now,
                                 Effects* effects);
  // A waiting job is PAUSED at once; a running one stops after a checkpoint (pause_requested).
  absl::StatusOr<v1::Job> Pause(const v1::JobActionRequest& request, const base::Now& now,
                                Effects* effects);
  // PAUSED or FAILED to QUEUED with fresh retry budgets; also takes back a pause under way.
  absl::StatusOr<v1::Job> Resume(const v1::JobActionRequest& request, const base::Now& now,
                                 Effects* effects);
  // A finished or paused job. A repeat of a done request is OK while this Coordinator lives, then
  // NOT_FOUND.
  absl::Status Delete(const v1::JobActionRequest& request, const base::Now& now, Effects* effects);
  // NOT_FOUND: job, or step. FAILED_PRECONDITION: the newest checkpoint of an unfinished job.
  absl::StatusOr<v1::Job> DeleteCheckpoint(const v1::DeleteCheckpointRequest& request,
                                           const base::Now& now, Effects* effects);

  // See the .proto files.
  absl::StatusOr<v1::Namespace> UpdateNamespace(const v1::UpdateNamespaceRequest& request,
                                                const base::Now& now, Effects* effects);
  absl::StatusOr<v1::Worker> DrainWorker(const v1::DrainWorkerRequest& request,
                                         const base::Now& now, Effects* effects);
  absl::StatusOr<v1::Worker> UndrainWorker(const v1::UndrainWorkerRequest& request,
                                           const base::Now& now, Effects* effects);
  absl::StatusOr<v1::ForgetWorkerResponse> ForgetWorker(const v1::ForgetWorkerRequest& request,
                                                        const base::Now& now, Effects* effects);

  // Renews the lease and takes in everything the worker says. A stale report_sequence is ignored
  // (OK). ALREADY_EXISTS: another incarnation of the name is alive: its lease runs and its stream
  // is open. INVALID_ARGUMENT: names, slots, sizes. RESOURCE_EXHAUSTED: too many workers.
  absl::Status HandleSnapshot(const v1::WorkerSnapshot& snapshot, const base::Now& now,
                              Effects* effects);
  // The stream closed: the lease goes on, nothing new is placed there until the next snapshot.
  void HandleDisconnect(const std::string& worker, const std::string& incarnation,
                        const base::Now& now, Effects* effects);
  // The owner itself did nothing for so long, so that nobody could be heard: every lease, and every
  // commit's wait for a copy, goes on by as much. Before what was waiting is handed over.
  void HandleStall(std::chrono::nanoseconds duration);
  // Leases, time-outs, back-offs. Several times a second.
  void Tick(const base::Now& now, Effects* effects);

  // What the worker is to be sent; complete every time. For an unknown worker: no ranks.
  v1::DesiredState Desired(const std::string& worker) const;

  // The stored record, or null; valid until the next call that changes something. The reason of a
  // waiting job is the one last stored: Explain has the present one.
  const v1::Job* Find(const std::string& job_id) const;
  // In the order of submission, newest first, from the number before `before_number` (from the
  // newest: INT64_MAX) until `visit` returns false.
  void VisitJobs(int64_t before_number, const std::function<bool(const v1::Job& job)>& visit) const;
  // The number at the end of a job id; 0 where there is none.
  static int64_t NumberOf(const std::string& job_id);
  // Jobs by state, indexed by v1::JobState.
  std::array<int64_t, v1::JobState_ARRAYSIZE> CountByState() const;
  // By name. Only workers that have reported to this Coordinator.
  std::vector<v1::Worker> Workers() const;
  // Present reason and message of any job; empty for an unknown one.
  Explanation Explain(const std::string& job_id, const base::Now& now) const;
  // Of a job that waits: who is ahead, and what would let it run. Looks at every waiting job.
  v1::JobWait ExplainWait(const std::string& job_id) const;
  // With what they use now, by name. Looks at every job.
  std::vector<v1::Namespace> Namespaces() const;
  // The attempt is the job's current one and has not ended: it may meet at the rendezvous.
  bool IsCurrentAttempt(const std::string& job_id, int64_t attempt) const;
  int64_t next_job_number() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sinkforge::server
