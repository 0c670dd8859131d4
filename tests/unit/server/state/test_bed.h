// A coordinator with a clock and a store in memory, and workers that a test moves by hand.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "server/state/coordinator.h"

namespace sinkforge::server {

struct JobOptions {
  std::string name = "job";
  int ranks = 1;
  int priority = 0;
  v1::Device device = v1::DEVICE_CPU;
  int keep = 2;
  int keep_best = 0;
  int64_t keep_every = 0;
  v1::BadBatches bad_batches = v1::BAD_BATCHES_FAIL;
  std::string request_id = "";  // empty: a new one
  int min_ranks = 0;            // 0: like `ranks`
  std::string name_space = "default";
  std::string sweep = "";
  int sweep_running_max = 0;
  double deadline_hours = 0;
};

class TestBed {
 public:
  explicit TestBed(const CoordinatorOptions& options = {});

  // Stores what a call changed, as the engine does, and keeps it for the test to look at.
  void Apply(const Effects& effects);
  void Advance(std::chrono::nanoseconds duration);
  void Tick();
  // As after a kill: only what was stored comes back.
  void Restart();

  absl::StatusOr<v1::Job> TrySubmit(const JobOptions& options = {});
  std::string Submit(const JobOptions& options = {});  // the job's id
  absl::StatusOr<v1::Job> Cancel(const std::string& job_id, const std::string& request_id = "");
  absl::StatusOr<v1::Job> Pause(const std::string& job_id, const std::string& request_id = "");
  absl::StatusOr<v1::Job> Resume(const std::string& job_id, const std::string& request_id = "");
  absl::Status Delete(const std::string& job_id, const std::string& request_id = "");
  absl::Status UpdateNamespace(const v1::UpdateNamespaceRequest& request);
  absl::StatusOr<v1::Worker> Drain(const std::string& worker, const std::string& note = "");
  absl::StatusOr<v1::Worker> Undrain(const std::string& worker);
  // The checkpoints that are lost.
  absl::StatusOr<int64_t> ForgetWorker(const std::string& worker,
                                       const std::string& request_id = "");
  absl::Status DeleteCheckpoint(const std::string& job_id, int64_t step);

  const v1::Job& Job(const std::string& job_id) const;
  v1::JobState StateOf(const std::string& job_id) const { return Job(job_id).state(); }
  // Stored events of one kind.
  std::vector<v1::Event> Events(const std::string& job_id, v1::EventKind kind) const;

  CoordinatorOptions options;
  Coordinator coordinator;
  base::Now now;
  Effects last;  // of the last call
  std::map<std::string, v1::Job> stored;
  std::map<std::string, v1::Namespace> namespaces;
  std::map<std::string, v1::WorkerDrain> drains;
  std::vector<v1::Event> events;
  int64_t next_job_number = 1;

 private:
  int request_count_ = 0;
  int uid_count_ = 0;
};

// Holds ranks and parts; says only what it is told to say.
class HandWorker {
 public:
  HandWorker(TestBed* bed, const std::string& name, int slots, v1::Device device = v1::DEVICE_CPU);

  // Does what the coordinator wants: starts, kills, forgets, drops.
  void Obey();
  // Sends the snapshot.
  absl::Status Report();
  // Obey, Report.
  void Sync();
  // Has all that it is to fetch from others, and says so.
  void Fetch();
  void Disconnect();
  // A new incarnation: its ranks are gone, its parts are not.
  void RestartDaemon(const std::string& incarnation);

  bool Holds(const std::string& job_id, int64_t attempt, int rank = 0) const;
  v1::RankStatus& Rank(const std::string& job_id, int rank = 0);  // of the newest attempt here
  // All ranks of the job here train and have done `step` steps.
  void Train(const std::string& job_id, int64_t step);
  // Starts what it is to start, and trains the job to `step`.
  void RunTo(const std::string& job_id, int64_t step);
  // The job's ranks here end with this fault, and are gone when that is acknowledged.
  void Crash(const std::string& job_id, v1::Reason reason = v1::REASON_TRAINER_CRASHED,
             const std::string& message = "boom");
  // Parts of the ranks of the job here are durable.
  void Checkpoint(const std::string& job_id, int64_t step, int world_size = 1);
  void End(const std::string& job_id, v1::RankOutcome outcome,
           v1::Reason reason = v1::REASON_UNSPECIFIED, const std::string& message = "");
  v1::DesiredState Desired() const;

  v1::WorkerSnapshot snapshot;

 private:
  TestBed* bed_;
  std::map<std::pair<std::string, int64_t>, std::string> uids_;  // by job and attempt
};

}  // namespace sinkforge::server
