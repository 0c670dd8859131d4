// See test_bed.h.
#include "test_bed.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace sinkforge::server {

TestBed::TestBed(const CoordinatorOptions& o) : options(o), coordinator(o) {
  now.monotonic = std::chrono::hours(1);
  now.wall = std::chrono::system_clock::time_point(std::chrono::hours(500000));
  coordinator.Load({}, 1, now);
}

void TestBed::Apply(const Effects& effects) {
  last = effects;
  for (const v1::Job& job : effects.jobs) stored[job.job_id()] = job;
  for (const v1::Event& event : effects.events) events.push_back(event);
  for (const std::string& job_id : effects.deleted_jobs) {
    stored.erase(job_id);
    std::erase_if(events, [&](const v1::Event& event) { return event.job_id() == job_id; });
  }
  if (effects.next_job_number.has_value()) next_job_number = *effects.next_job_number;
  for (const v1::Namespace& settings : effects.namespaces) {
    namespaces[settings.namespace_()] = settings;
  }
  for (const auto& [worker, drain] : effects.drains) {
    drains.erase(worker);
    if (drain.has_value()) drains[worker] = *drain;
  }
}

void TestBed::Advance(std::chrono::nanoseconds duration) {
  now.monotonic += duration;
  now.wall += std::chrono::duration_cast<std::chrono::system_clock::duration>(duration);
}

void TestBed::Tick() {
  Effects effects;
  coordinator.Tick(now, &effects);
  Apply(effects);
}

void TestBed::Restart() {
  std::vector<v1::Job> jobs;
  for (const auto& [job_id, job] : stored) jobs.push_back(job);
  coordinator = Coordinator(options);
  std::vector<v1::Namespace> settings;
  for (const auto& [name, stored_settings] : namespaces) settings.push_back(stored_settings);
  std::vector<v1::WorkerDrain> stored_drains;
  for (const auto& [worker, drain] : drains) stored_drains.push_back(drain);
  coordinator.LoadSettings(settings, stored_drains);
  coordinator.Load(jobs, next_job_number, now);
}

absl::StatusOr<v1::Job> TestBed::TrySubmit(const JobOptions& o) {
  v1::SubmitJobRequest request;
  request.set_request_id(o.request_id.empty() ? absl::StrCat("submit-", ++request_count_)
                                              : o.request_id);
  request.mutable_spec()->set_name(o.name);
  request.mutable_spec()->set_priority(o.priority);
  request.mutable_spec()->mutable_train()->set_steps(100);
  request.mutable_spec()->mutable_train()->set_bad_batches(o.bad_batches);
  request.mutable_spec()->mutable_checkpoint()->set_keep(o.keep);
  request.mutable_spec()->mutable_checkpoint()->set_keep_best(o.keep_best);
  request.mutable_spec()->mutable_checkpoint()->set_keep_every(o.keep_every);
  request.mutable_spec()->mutable_resources()->set_device(o.device);
  request.mutable_spec()->mutable_resources()->set_ranks(o.ranks);
  request.mutable_spec()->mutable_resources()->set_min_ranks(o.min_ranks == 0 ? o.ranks
                                                                              : o.min_ranks);
  request.mutable_spec()->set_namespace_(o.name_space);
  request.mutable_spec()->set_deadline_hours(o.deadline_hours);
  request.set_sweep(o.sweep);
  request.set_sweep_running_max(o.sweep_running_max);
  Effects effects;
  absl::StatusOr<v1::Job> job =
      coordinator.Submit(request, {1234, absl::StrCat("uid-", ++uid_count_)}, now, &effects);
  Apply(effects);
  return job;
}

std::string TestBed::Submit(const JobOptions& o) {
  absl::StatusOr<v1::Job> job = TrySubmit(o);
  SINKFORGE_REQUIRE(job.ok());
  return job->job_id();
}

namespace {
v1::JobActionRequest Action(const std::string& job_id, const std::string& request_id) {
  v1::JobActionRequest request;
  request.set_job_id(job_id);
  request.set_request_id(request_id);
  return request;
}
}  // namespace

absl::StatusOr<v1::Job> TestBed::Cancel(const std::string& job_id, const std::string& request_id) {
  Effects effects;
  auto job = coordinator.Cancel(Action(job_id, request_id), now, &effects);
  Apply(effects);
  return job;
}

absl::StatusOr<v1::Job> TestBed::Pause(const std::string& job_id, const std::string& request_id) {
  Effects effects;
  auto job = coordinator.Pause(Action(job_id, request_id), now, &effects);
  Apply(effects);
  return job;
}

absl::StatusOr<v1::Job> TestBed::Resume(const std::string& job_id, const std::string& request_id) {
  Effects effects;
  auto job = coordinator.Resume(Action(job_id, request_id), now, &effects);
  Apply(effects);
  return job;
}

absl::Status TestBed::Delete(const std::string& job_id, const std::string& request_id) {
  Effects effects;
  absl::Status status = coordinator.Delete(Action(job_id, request_id), now, &effects);
  Apply(effects);
  return status;
}

absl::Status TestBed::UpdateNamespace(const v1::UpdateNamespaceRequest& request) {
  Effects effects;
  const absl::Status status = coordinator.UpdateNamespace(request, now, &effects).status();
  Apply(effects);
  return status;
}

absl::StatusOr<v1::Worker> TestBed::Drain(const std::string& worker, const std::string& note) {
  v1::DrainWorkerRequest request;
  request.set_worker(worker);
  request.set_note(note);
  Effects effects;
  auto drained = coordinator.DrainWorker(request, now, &effects);
  Apply(effects);
  return drained;
}

absl::StatusOr<v1::Worker> TestBed::Undrain(const std::string& worker) {
  v1::UndrainWorkerRequest request;
  request.set_worker(worker);
  Effects effects;
  auto undrained = coordinator.UndrainWorker(request, now, &effects);
  Apply(effects);
  return undrained;
}

absl::StatusOr<int64_t> TestBed::ForgetWorker(const std::string& worker,
                                              const std::string& request_id) {
  v1::ForgetWorkerRequest request;
  request.set_worker(worker);
  request.set_request_id(request_id);
  Effects effects;
  auto forgotten = coordinator.ForgetWorker(request, now, &effects);
  Apply(effects);
  if (!forgotten.ok()) return forgotten.status();
  return forgotten->checkpoints_lost();
}

absl::Status TestBed::DeleteCheckpoint(const std::string& job_id, int64_t step) {
  v1::DeleteCheckpointRequest request;
  request.set_job_id(job_id);
  request.set_step(step);
  Effects effects;
  absl::Status status = coordinator.DeleteCheckpoint(request, now, &effects).status();
  Apply(effects);
  return status;
}

const v1::Job& TestBed::Job(const std::string& job_id) const {
  const v1::Job* job = coordinator.Find(job_id);
  SINKFORGE_REQUIRE(job != nullptr);
  return *job;
}

std::vector<v1::Event> TestBed::Events(const std::string& job_id, v1::EventKind kind) const {
  std::vector<v1::Event> found;
  for (const v1::Event& event : events) {
    if (event.job_id() == job_id && event.kind() == kind) found.push_back(event);
  }
  return found;
}

HandWorker::HandWorker(TestBed* bed, const std::string& name, int slots, v1::Device device)
    : bed_(bed) {
  snapshot.set_worker(name);
  snapshot.set_incarnation(name + "/1");
  snapshot.set_address(name + ":7000");
  for (int i = 0; i < slots; ++i) {
    v1::Slot* slot = snapshot.add_slots();
    slot->set_index(i);
    slot->set_device(device);
  }
}

v1::DesiredState HandWorker::Desired() const {
  return bed_->coordinator.Desired(snapshot.worker());
}

void HandWorker::Obey() {
  const v1::DesiredState desired = Desired();
  const auto is_wanted = [&](const v1::RankStatus& rank) {
    return std::any_of(desired.ranks().begin(), desired.ranks().end(), [&](const auto& wanted) {
      return wanted.job_id() == rank.job_id() && wanted.attempt() == rank.attempt() &&
             wanted.rank() == rank.rank();
    });
  };
  for (const v1::DesiredRank& wanted : desired.ranks()) {
    uids_[{wanted.job_id(), wanted.attempt()}] = wanted.job_uid();
    if (Holds(wanted.job_id(), wanted.attempt(), wanted.rank())) continue;
    v1::RankStatus* rank = snapshot.add_ranks();
    rank->set_job_id(wanted.job_id());
    rank->set_attempt(wanted.attempt());
    rank->set_rank(wanted.rank());
    rank->set_slot(wanted.slot());
    rank->set_phase(v1::RANK_PHASE_SPAWNING);
  }
  for (v1::RankStatus& rank : *snapshot.mutable_ranks()) {
    if (is_wanted(rank) || rank.phase() == v1::RANK_PHASE_ENDED) continue;
    rank.set_phase(v1::RANK_PHASE_ENDED);
    rank.set_outcome(v1::RANK_OUTCOME_KILLED);
  }
  auto* ranks = snapshot.mutable_ranks();
  ranks->erase(std::remove_if(ranks->begin(), ranks->end(),
                              [&](const v1::RankStatus& rank) {
                                const auto& ends = desired.acknowledged_ends();
                                return std::find(ends.begin(), ends.end(),
                                                 absl::StrCat(rank.job_id(), "/", rank.attempt(),
                                                              "/", rank.rank())) != ends.end();
                              }),
               ranks->end());
  auto* parts = snapshot.mutable_checkpoint_parts();
  for (const v1::DropCheckpoint& drop : desired.drop_checkpoints()) {
    parts->erase(
        std::remove_if(parts->begin(), parts->end(),
                       [&](const v1::CheckpointPart& part) {
                         return part.job_id() == drop.job_id() &&
                                part.attempt() == drop.attempt() && part.step() == drop.step() &&
                                (drop.job_uid().empty() || drop.job_uid() == part.job_uid());
                       }),
        parts->end());
  }
  snapshot.set_applied_desired_revision(
      std::max(snapshot.applied_desired_revision(), desired.desired_revision()));
}

absl::Status HandWorker::Report() {
  snapshot.set_report_sequence(snapshot.report_sequence() + 1);
  Effects effects;
  absl::Status status = bed_->coordinator.HandleSnapshot(snapshot, bed_->now, &effects);
  bed_->Apply(effects);
  return status;
}

void HandWorker::Sync() {
  Obey();
  SINKFORGE_REQUIRE(Report().ok());
}

void HandWorker::Fetch() {
  const v1::DesiredState desired = Desired();
  for (const v1::CopyPart& copy : desired.copy_parts()) {
    *snapshot.add_checkpoint_parts() = copy.part();
  }
  Sync();
}

void HandWorker::Disconnect() {
  Effects effects;
  bed_->coordinator.HandleDisconnect(snapshot.worker(), snapshot.incarnation(), bed_->now,
                                     &effects);
  bed_->Apply(effects);
}

void HandWorker::RestartDaemon(const std::string& incarnation) {
  snapshot.set_incarnation(incarnation);
  snapshot.clear_ranks();
  snapshot.set_report_sequence(0);
  snapshot.set_applied_desired_revision(0);
}

bool HandWorker::Holds(const std::string& job_id, int64_t attempt, int rank) const {
  return std::any_of(
      snapshot.ranks().begin(), snapshot.ranks().end(), [&](const v1::RankStatus& status) {
        return status.job_id() == job_id && status.attempt() == attempt && status.rank() == rank;
      });
}

v1::RankStatus& HandWorker::Rank(const std::string& job_id, int rank) {
  v1::RankStatus* newest = nullptr;
  for (v1::RankStatus& status : *snapshot.mutable_ranks()) {
    if (status.job_id() != job_id || status.rank() != rank) continue;
    if (newest == nullptr || status.attempt() > newest->attempt()) newest = &status;
  }
  SINKFORGE_REQUIRE(newest != nullptr);
  return *newest;
}

void HandWorker::Train(const std::string& job_id, int64_t step) {
  for (v1::RankStatus& status : *snapshot.mutable_ranks()) {
    if (status.job_id() != job_id || status.phase() == v1::RANK_PHASE_ENDED) continue;
    status.set_phase(v1::RANK_PHASE_TRAINING);
    status.set_step(step);
    if (status.rank() != 0) continue;
    status.mutable_progress()->set_step(step);
    status.mutable_progress()->set_steps_total(100);
    status.mutable_progress()->set_loss(10.0 / static_cast<double>(step + 1));
  }
}

void HandWorker::RunTo(const std::string& job_id, int64_t step) {
  Sync();
  Train(job_id, step);
  Sync();
}

void HandWorker::Crash(const std::string& job_id, v1::Reason reason, const std::string& message) {
  End(job_id, v1::RANK_OUTCOME_FAILED, reason, message);
  Sync();
  Sync();
}

void HandWorker::Checkpoint(const std::string& job_id, int64_t step, int world_size) {
  const auto ranks = snapshot.ranks();
  for (const v1::RankStatus& status : ranks) {
    if (status.job_id() != job_id) continue;
    v1::CheckpointPart* part = snapshot.add_checkpoint_parts();
    part->set_job_id(job_id);
    part->set_attempt(status.attempt());
    part->set_step(step);
    part->set_rank(status.rank());
    part->set_world_size(world_size);
    part->set_bytes(1000);
    part->set_worker(snapshot.worker());
    part->set_job_uid(uids_[{job_id, status.attempt()}]);
  }
}

void HandWorker::End(const std::string& job_id, v1::RankOutcome outcome, v1::Reason reason,
                     const std::string& message) {
  for (v1::RankStatus& status : *snapshot.mutable_ranks()) {
    if (status.job_id() != job_id || status.phase() == v1::RANK_PHASE_ENDED) continue;
    status.set_phase(v1::RANK_PHASE_ENDED);
    status.set_outcome(outcome);
    status.set_reason(reason);
    status.set_message(message);
  }
}

}  // namespace sinkforge::server
