// The worker's state; see agent.h.
#include "worker/agent/agent.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/ids.h"
#include "base/log.h"

namespace sinkforge::worker {
namespace {

absl::Status NotWanted() {
  return absl::FailedPreconditionError(
      "this trainer's attempt is over or was never started here; exit without writing anything "
      "more");
}

bool IsValid(const v1::DesiredRank& rank) {
  return IsJobId(rank.job_id()) && IsKeyNumber(rank.attempt()) && IsKeyNumber(rank.rank());
}

bool IsValid(const v1::DropCheckpoint& drop) {
  return IsJobId(drop.job_id()) && IsKeyNumber(drop.attempt()) && IsKeyNumber(drop.step());
}

template <typename Repeated>
void RemoveInvalid(const char* what, Repeated* list) {
  const int before = list->size();
  list->erase(
      std::remove_if(list->begin(), list->end(), [](const auto& item) { return !IsValid(item); }),
      list->end());
  if (list->size() != before) {
    base::LogError("the coordinator sent impossible names or numbers; left out",
                   {{"what", std::string(what)}, {"count", int64_t{before - list->size()}}});
  }
}

// What every log line about a rank has; the worker's name is in all of the daemon's lines.
base::LogFields FieldsOf(const v1::DesiredRank& rank) {
  return {{"job", rank.job_id()},
          {"attempt", int64_t{rank.attempt()}},
          {"rank", int64_t{rank.rank()}},
          {"trace_id", rank.trace_id()}};
}

}  // namespace

Agent::Agent(AgentOptions options, Parts parts)
    : options_(std::move(options)), parts_(std::move(parts)) {}

void Agent::OnStreamOpened() {
  base::MutexLock lock(&mutex_);
  has_desired_ = false;
}

void Agent::SetDesired(const v1::DesiredState& desired) {
  {
    base::MutexLock lock(&mutex_);
    if (has_desired_ && desired.desired_revision() < desired_.desired_revision()) return;
    desired_ = desired;
    RemoveInvalid("ranks", desired_.mutable_ranks());
    RemoveInvalid("drop_checkpoints", desired_.mutable_drop_checkpoints());
    has_desired_ = true;
    for (const v1::DesiredRank& wanted : desired_.ranks()) TakeHoldersLocked(wanted);
  }
  if (parts_.on_copies) {
    parts_.on_copies({desired.copy_parts().begin(), desired.copy_parts().end()});
  }
  parts_.loop->Notify();
}

WorkerView Agent::ViewLocked() const {
  WorkerView view;
  for (const auto& [key, rank] : ranks_) {
    HeldRank held;
    held.key = key;
    held.slot = rank.status.slot();
    held.life = rank.ended()                    ? HeldRank::Life::kEnded
                : rank.kill != KillCause::kNone ? HeldRank::Life::kDying
                                                : HeldRank::Life::kRunning;
    held.run = rank.run;
    view.ranks.push_back(std::move(held));
  }
  view.checkpoints = parts_.checkpoints->Checkpoints();
  const int32_t slots = options_.cpu_slots + options_.gpu_slots;
  for (int32_t slot = 0; slot < slots; ++slot) view.slots.insert(slot);
  view.intake = draining_ ? WorkerView::Intake::kDraining : WorkerView::Intake::kOpen;
  return view;
}

void Agent::Tick(const base::Now& now) {
  std::vector<Plan::Drop> drop;
  bool changed = false;
  {
    base::MutexLock lock(&mutex_);
    for (auto& [key, rank] : ranks_) {
      const KillCause cause = Overdue(rank, options_.patience, now);
      if (cause != KillCause::kNone) KillLocked(cause, &rank);
    }
    if (!has_desired_) return;
    Plan plan = Reconcile(ViewLocked(), desired_);
    changed = !plan.empty() || applied_revision_ != desired_.desired_revision();
    applied_revision_ = desired_.desired_revision();
    for (const RankKey& key : plan.kill) KillLocked(KillCause::kNotDesired, &ranks_.at(key));
    for (const RankKey& key : plan.stop) {
      base::Log(base::Severity::kInfo, "trainer is asked to checkpoint and stop",
                FieldsOf(ranks_.at(key).desired), {});
      ranks_.at(key).run = v1::RUN_REQUEST_CHECKPOINT_AND_STOP;
    }
    for (const RankKey& key : plan.forget) ranks_.erase(key);
    for (const Plan::Refusal& refusal : plan.refuse) RefuseLocked(refusal, now);
    for (const v1::DesiredRank& rank : plan.spawn) SpawnLocked(rank, now);
    drop = std::move(plan.drop_checkpoints);
  }
  for (const auto& [key, job_uid] : drop) {
    const absl::Status dropped = parts_.checkpoints->Drop(key, job_uid);
    if (!dropped.ok()) {
      base::LogWarning(
          "checkpoint could not be dropped; tried again later",
          {{"job", key.job_id}, {"step", key.step}, {"error", std::string(dropped.message())}});
    }
  }
  if (changed) parts_.on_news(Parts::Urgency::kNow);
}

void Agent::TakeHoldersLocked(const v1::DesiredRank& wanted) {
  const auto found = ranks_.find(KeyOf(wanted));
  if (found == ranks_.end() || found->second.status.phase() >= v1::RANK_PHASE_TRAINING) return;
  v1::DesiredRank& desired = found->second.desired;
  if (!wanted.has_restore() || !desired.has_restore()) return;
  // Of another checkpoint: the trainer was told of this one.
  if (wanted.restore().attempt() != desired.restore().attempt() ||
      wanted.restore().step() != desired.restore().step()) {
    return;
  }
  *desired.mutable_restore() = wanted.restore();
  // A coordinator that was started anew does not know all of them yet.
  for (const auto& [holder, address] : wanted.holder_addresses()) {
    (*desired.mutable_holder_addresses())[holder] = address;
  }
}

void Agent::SpawnLocked(const v1::DesiredRank& desired, const base::Now& now) {
  const RankKey key = KeyOf(desired);
  const std::string token = base::RandomId();
  ranks_.emplace(key, StartRank(desired, token, now));
  tokens_.emplace(token, key);
  base::Log(base::Severity::kInfo, "trainer is started", FieldsOf(desired),
            {{"slot", int64_t{desired.slot()}}});
  LaunchRequest request{key, token, std::max(1, desired.spec().resources().threads()), {}};
  if (desired.slot() >= options_.cpu_slots) request.gpu = desired.slot() - options_.cpu_slots;
  parts_.launch(request);
}

void Agent::RefuseLocked(const Plan::Refusal& refusal, const base::Now& now) {
  RankState rank = StartRank(refusal.rank, "", now);
  rank.status.set_phase(v1::RANK_PHASE_ENDED);
  rank.status.set_outcome(v1::RANK_OUTCOME_FAILED);
  rank.status.set_reason(refusal.reason);
  rank.status.set_message(refusal.message);
  ranks_.emplace(KeyOf(refusal.rank), std::move(rank));
}

void Agent::KillLocked(KillCause cause, RankState* rank) {
  if (rank->ended() || rank->kill != KillCause::kNone) return;
  rank->kill = cause;
  // From now on the trainer's token is void, so nothing it still sends is kept.
  tokens_.erase(rank->token);
  const RankKey key = KeyOf(rank->desired);
  base::Log(base::Severity::kInfo, "trainer is killed", FieldsOf(rank->desired),
            {{"cause", WordsOf(cause)}});
  parts_.kill(key);
}

void Agent::OnExit(const RankKey& key, const TrainerExit& exit) {
  {
    base::MutexLock lock(&mutex_);
    const auto found = ranks_.find(key);
    SINKFORGE_REQUIRE(found != ranks_.end());
    EndLocked(exit, &found->second);
  }
  parts_.loop->Notify();
  parts_.on_news(Parts::Urgency::kNow);
}

void Agent::EndLocked(const TrainerExit& exit, RankState* rank) {
  tokens_.erase(rank->token);
  ApplyExit(exit, options_.patience, rank);
  const bool failed = rank->status.outcome() == v1::RANK_OUTCOME_FAILED;
  base::Log(failed ? base::Severity::kWarning : base::Severity::kInfo, "trainer ended",
            FieldsOf(rank->desired),
            {{"outcome", v1::RankOutcome_Name(rank->status.outcome())},
             {"reason", v1::Reason_Name(rank->status.reason())},
             {"detail", rank->status.message()}});
  if (parts_.on_end) parts_.on_end(rank->status);
}

v1::WorkerSnapshot Agent::Snapshot(int64_t disk_free_bytes) {
  v1::WorkerSnapshot snapshot;
  snapshot.set_worker(options_.worker);
  snapshot.set_incarnation(options_.incarnation);
  snapshot.set_address(options_.address);
  snapshot.set_metrics_address(options_.metrics_address);
  snapshot.set_version(options_.version);
  snapshot.set_processor(options_.processor);
  snapshot.set_disk_free_bytes(disk_free_bytes);
  for (const std::string& root : options_.data_roots) snapshot.add_data_roots(root);
  for (int32_t index = 0; index < options_.cpu_slots; ++index) {
    v1::Slot& slot = *snapshot.add_slots();
    slot.set_index(index);
    slot.set_device(v1::DEVICE_CPU);
    slot.set_description(options_.processor);
  }
  for (int32_t gpu = 0; gpu < options_.gpu_slots; ++gpu) {
    v1::Slot& slot = *snapshot.add_slots();
    slot.set_index(options_.cpu_slots + gpu);
    slot.set_device(v1::DEVICE_CUDA);
    slot.set_description("GPU " + std::to_string(gpu));
  }
  base::MutexLock lock(&mutex_);
  snapshot.set_report_sequence(++report_sequence_);
  snapshot.set_draining(draining_);
  snapshot.set_applied_desired_revision(applied_revision_);
  for (const auto& [key, rank] : ranks_) *snapshot.add_ranks() = rank.status;
  for (const v1::CheckpointPart& part : parts_.checkpoints->Parts()) {
    *snapshot.add_checkpoint_parts() = part;
  }
  return snapshot;
}

void Agent::Drain() {
  {
    base::MutexLock lock(&mutex_);
    draining_ = true;
    for (auto& [key, rank] : ranks_) {
      if (!rank.ended()) rank.run = v1::RUN_REQUEST_CHECKPOINT_AND_STOP;
    }
  }
  parts_.loop->Notify();
  parts_.on_news(Parts::Urgency::kNow);
}

void Agent::KillAll() {
  base::MutexLock lock(&mutex_);
  for (auto& [key, rank] : ranks_) KillLocked(KillCause::kDrained, &rank);
}

int Agent::running() const {
  base::MutexLock lock(&mutex_);
  return static_cast<int>(std::count_if(ranks_.begin(), ranks_.end(),
                                        [](const auto& rank) { return !rank.second.ended(); }));
}

v1::Leave Agent::leave() const {
  base::MutexLock lock(&mutex_);
  return desired_.leave();
}

int64_t Agent::only_copies() const {
  base::MutexLock lock(&mutex_);
  return desired_.only_copies();
}

int Agent::unacknowledged() const {
  base::MutexLock lock(&mutex_);
  const std::set<std::string> known(desired_.acknowledged_ends().begin(),
                                    desired_.acknowledged_ends().end());
  return static_cast<int>(std::count_if(ranks_.begin(), ranks_.end(), [&](const auto& rank) {
    return rank.second.ended() && known.count(ToString(rank.first)) == 0;
  }));
}

std::vector<RankView> Agent::Ranks() const {
  base::MutexLock lock(&mutex_);
  std::vector<RankView> views;
  for (const auto& [key, rank] : ranks_) {
    views.push_back({key, rank.status, rank.desired, rank.last_step.value_or(v1::StepRecord()),
                     rank.trend.mean(), rank.trend.least()});
  }
  return views;
}

const RankState* Agent::FindLocked(const std::string& token) const {
  const auto found = tokens_.find(token);
  return found == tokens_.end() ? nullptr : &ranks_.at(found->second);
}

absl::StatusOr<v1::Assignment> Agent::Assign(const std::string& token) const {
  base::MutexLock lock(&mutex_);
  const RankState* rank = FindLocked(token);
  if (rank == nullptr) return NotWanted();
  v1::Assignment assignment;
  *assignment.mutable_rank() = rank->desired;
  assignment.mutable_rank()->set_run(rank->run);
  for (const std::string& root : options_.data_roots) assignment.add_data_roots(root);
  assignment.set_worker(options_.worker);
  return assignment;
}

absl::StatusOr<RankKey> Agent::Authenticate(const std::string& token) const {
  base::MutexLock lock(&mutex_);
  const RankState* rank = FindLocked(token);
  if (rank == nullptr) return NotWanted();
  return KeyOf(rank->desired);
}

absl::StatusOr<v1::TrainerCommand> Agent::Report(const v1::TrainerReport& report,
                                                 const base::Now& now) {
  v1::TrainerCommand command;
  ReportNews news = ReportNews::kNothing;
  {
    base::MutexLock lock(&mutex_);
    const auto found = tokens_.find(report.token());
    if (found == tokens_.end()) return NotWanted();
    RankState& rank = ranks_.at(found->second);
    news = ApplyReport(report, now, &rank);
    command.set_run(rank.run);
  }
  if (news == ReportNews::kPhase) parts_.on_news(Parts::Urgency::kNow);
  if (news == ReportNews::kStep) parts_.on_news(Parts::Urgency::kSoon);
  return command;
}

void Agent::OnReportArrived(const v1::TrainerReport& report, const base::Now& now) {
  base::MutexLock lock(&mutex_);
  const auto found = tokens_.find(report.token());
  if (found == tokens_.end()) return;
  ranks_.at(found->second).last_report_time = now.monotonic;
  if (report.steps_size() == 0 && !report.has_start()) return;
  for (auto& [key, rank] : ranks_) {
    const bool same = key.job_id == found->second.job_id && key.attempt == found->second.attempt;
    if (same) rank.progress_time = now.monotonic;
  }
}

void Agent::OnReportNotKept(const std::string& token, const absl::Status& why) {
  {
    base::MutexLock lock(&mutex_);
    const auto found = tokens_.find(token);
    if (found == tokens_.end()) return;
    RankState& rank = ranks_.at(found->second);
    if (rank.held) return;
    HoldRank(options_.worker, why, &rank);
    base::Log(base::Severity::kWarning, "step records cannot be kept; the trainer waits",
              FieldsOf(rank.desired), {{"error", std::string(why.message())}});
  }
  parts_.on_news(Parts::Urgency::kNow);
}

void Agent::OnCheckpointBytes(const std::string& token, const base::Now& now) {
  base::MutexLock lock(&mutex_);
  const auto found = tokens_.find(token);
  if (found != tokens_.end()) ranks_.at(found->second).progress_time = now.monotonic;
}

}  // namespace sinkforge::worker
