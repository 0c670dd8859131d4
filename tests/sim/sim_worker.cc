// See sim_worker.h.
#include "sim_worker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sinkforge::sim {
namespace {

constexpr int64_t kKillTicksMax = 4;  // from the decision to kill until the process is gone
constexpr int64_t kCopyTicks = 8;     // on average, of one part

}  // namespace

std::string PartKey(const v1::CheckpointPart& part) {
  return absl::StrCat(part.job_id(), "/", part.attempt(), "/", part.step(), "/", part.rank());
}

bool GangBoard::MayStep(const v1::DesiredRank& rank, int64_t step) {
  Gang& gang = GangOf(rank);
  gang.step[rank.rank()] = step;
  for (int32_t peer = 0; peer < rank.world_size(); ++peer) {
    const auto it = gang.step.find(peer);
    if (it == gang.step.end() || it->second < step) return false;
  }
  return true;
}

int64_t GangBoard::StopStep(const v1::DesiredRank& rank, int64_t step, bool is_asked) {
  Gang& gang = GangOf(rank);
  // No peer is more than one step ahead, so that none has passed this.
  if (is_asked && gang.stop_step == INT64_MAX) gang.stop_step = step + 2;
  return std::min(gang.stop_step, rank.spec().train().steps());
}

SimWorker::SimWorker(std::string name, int slots, GangBoard* board, Random* random)
    : name_(std::move(name)), slots_(slots), board_(board), random_(random) {}

void SimWorker::Start() {
  Kill();
  running_ = true;
  draining_ = false;
  leave_ = v1::LEAVE_UNSPECIFIED;
  incarnation_ = absl::StrCat(name_, "/", ++starts_);
  report_sequence_ = 0;
  applied_revision_ = 0;
}

void SimWorker::Kill() {
  running_ = false;
  ranks_.clear();  // Trainers die with their daemon.
  to_copy_.clear();
}

void SimWorker::Drain() { draining_ = true; }

void SimWorker::WipeDisk() {
  for (const auto& [key, part] : disk_) wiped_.insert(key);
  disk_.clear();
}

bool SimWorker::HasPart(const v1::CheckpointPart& part) const {
  const auto held = disk_.find(PartKey(part));
  const bool is_here = held != disk_.end() && held->second.job_uid() == part.job_uid();
  return is_here || wiped_.contains(PartKey(part));
}

std::vector<v1::CheckpointPart> SimWorker::Parts() const {
  std::vector<v1::CheckpointPart> parts;
  for (const auto& [key, part] : disk_) parts.push_back(part);
  return parts;
}

void SimWorker::NoteRestore() {
  for (auto& [key, rank] : ranks_) rank.is_forgotten = true;
}

bool SimWorker::IsTaken(int32_t slot) const {
  return std::any_of(ranks_.begin(), ranks_.end(), [slot](const auto& entry) {
    const Rank& rank = entry.second;
    return rank.is_forgotten && rank.runs() && rank.status.slot() == slot;
  });
}

std::string SimWorker::Apply(const v1::DesiredState& desired) {
  if (desired.desired_revision() < applied_revision_) return "";
  applied_revision_ = desired.desired_revision();
  leave_ = desired.leave();
  std::map<RankKey, const v1::DesiredRank*> wanted;
  for (const v1::DesiredRank& rank : desired.ranks()) {
    wanted[{rank.job_id(), rank.attempt(), rank.rank()}] = &rank;
  }
  for (auto& [key, rank] : ranks_) {
    if (wanted.contains(key) || !rank.runs() || rank.kill_ticks >= 0) continue;
    rank.kill_ticks = random_->Below(kKillTicksMax + 1);
  }
  for (const std::string& end : desired.acknowledged_ends()) {
    std::erase_if(ranks_, [&](const auto& entry) {
      const auto& [job_id, attempt, rank] = entry.first;
      return !entry.second.runs() && absl::StrCat(job_id, "/", attempt, "/", rank) == end;
    });
  }
  for (const v1::DropCheckpoint& drop : desired.drop_checkpoints()) {
    std::erase_if(disk_, [&](const auto& entry) {
      return entry.second.job_id() == drop.job_id() && entry.second.attempt() == drop.attempt() &&
             entry.second.step() == drop.step() &&
             (drop.job_uid().empty() || drop.job_uid() == entry.second.job_uid());
    });
  }
  to_copy_.clear();
  for (const v1::CopyPart& copy : desired.copy_parts()) to_copy_.push_back(copy.part());
  for (const auto& [key, rank] : wanted) {
    const auto known = ranks_.find(key);
    if (known != ranks_.end()) {
      known->second.desired = *rank;
      continue;
    }
    if (IsTaken(rank->slot())) continue;
    // Invariant 2, where it would hurt: two processes in one slot.
    for (const auto& [other_key, other] : ranks_) {
      if (other.runs() && other.status.slot() == rank->slot()) {
        return absl::StrCat("slot ", rank->slot(), " of ", name_, " is to run ", rank->job_id(),
                            " attempt ", rank->attempt(), " while it still runs ",
                            other.status.job_id(), " attempt ", other.status.attempt());
      }
    }
    for (const auto& [part_key, part] : disk_) {
      if (part.job_id() != rank->job_id() || part.attempt() != rank->attempt()) continue;
      if (part.job_uid() == rank->job_uid()) continue;
      return absl::StrCat(name_, " is to run attempt ", rank->attempt(), " of ", rank->job_id(),
                          ", of which it has checkpoints of another job");
    }
    Rank& fresh = ranks_[key];
    fresh.desired = *rank;
    fresh.status.set_job_id(rank->job_id());
    fresh.status.set_attempt(rank->attempt());
    fresh.status.set_rank(rank->rank());
    fresh.status.set_slot(rank->slot());
    fresh.status.set_phase(v1::RANK_PHASE_SPAWNING);
  }
  return "";
}

void SimWorker::Tick(const TrainerOptions& options) {
  if (!running_) return;
  for (auto& [key, rank] : ranks_) TickRank(options, &rank);
}

void SimWorker::CopyFrom(const SimWorker& holder) {
  if (!running_ || disk_full_ || !holder.running_) return;
  for (const v1::CheckpointPart& part : to_copy_) {
    if (part.worker() != holder.name_ || !random_->OneIn(kCopyTicks)) continue;
    if (!holder.disk_.contains(PartKey(part)) || disk_.contains(PartKey(part))) continue;
    v1::CheckpointPart& copy = disk_[PartKey(part)] = part;
    copy.set_worker(name_);
  }
}

void SimWorker::End(Rank* rank, v1::RankOutcome outcome, v1::Reason reason) {
  rank->status.set_phase(v1::RANK_PHASE_ENDED);
  rank->status.set_outcome(outcome);
  rank->status.set_reason(reason);
  rank->status.set_message(reason == v1::REASON_UNSPECIFIED ? "" : v1::Reason_Name(reason));
  rank->writing_step.reset();
}

void SimWorker::TickRank(const TrainerOptions& options, Rank* rank) {
  if (!rank->runs()) return;
  if (rank->kill_ticks >= 0) {
    if (rank->kill_ticks-- == 0) End(rank, v1::RANK_OUTCOME_KILLED, v1::REASON_UNSPECIFIED);
    return;
  }
  if (options.crash_one_in > 0 && random_->OneIn(options.crash_one_in)) {
    End(rank, v1::RANK_OUTCOME_FAILED, v1::REASON_TRAINER_CRASHED);
    return;
  }
  if (options.fatal_one_in > 0 && random_->OneIn(options.fatal_one_in)) {
    End(rank, v1::RANK_OUTCOME_FAILED, v1::REASON_NON_FINITE_LOSS);
    return;
  }
  const bool is_loading = rank->status.phase() == v1::RANK_PHASE_SPAWNING;
  if (is_loading && options.bad_data_one_in > 0 && random_->OneIn(options.bad_data_one_in)) {
    End(rank, v1::RANK_OUTCOME_FAILED, v1::REASON_BAD_DATA);
    return;
  }
  if (options.hang_one_in > 0 && random_->OneIn(options.hang_one_in)) rank->hangs = true;
  if (rank->hangs) return;
  if (rank->writing_step.has_value() && --rank->writing_ticks <= 0) FinishWrite(rank);
  if (!rank->runs() || rank->ends_after_write) return;
  ++rank->ticks;
  if (rank->status.phase() == v1::RANK_PHASE_TRAINING) {
    Train(options, rank);
  } else if (rank->ticks > options.load_ticks) {
    rank->status.set_restored_step(rank->desired.restore().step());
    rank->status.set_step(rank->desired.restore().step());
    rank->status.set_phase(v1::RANK_PHASE_TRAINING);
    rank->ticks = 0;
  }
}

void SimWorker::Train(const TrainerOptions& options, Rank* rank) {
  if (rank->ticks < options.step_ticks) return;
  rank->ticks = 0;
  const bool is_to_stop = rank->desired.run() == v1::RUN_REQUEST_CHECKPOINT_AND_STOP;
  const int64_t step = rank->status.step();
  const bool may_step = board_->MayStep(rank->desired, step);
  if (step >= board_->StopStep(rank->desired, step, is_to_stop)) {
    rank->ends_after_write = true;
    rank->status.set_phase(v1::RANK_PHASE_CHECKPOINTING_TO_STOP);
    if (!rank->writing_step.has_value()) BeginWrite(options, rank);
    return;
  }
  if (!may_step) return;
  rank->status.set_step(step + 1);
  if (rank->status.rank() == 0) {
    rank->status.mutable_progress()->set_step(rank->status.step());
    rank->status.mutable_progress()->set_loss(100.0 - static_cast<double>(rank->status.step()));
  }
  if (rank->status.step() % options.checkpoint_every == 0 && !rank->writing_step.has_value()) {
    BeginWrite(options, rank);
  }
}

void SimWorker::BeginWrite(const TrainerOptions& options, Rank* rank) {
  rank->writing_step = rank->status.step();
  rank->writing_ticks = random_->Between(1, options.checkpoint_ticks_max);
}

void SimWorker::FinishWrite(Rank* rank) {
  v1::CheckpointPart part;
  part.set_job_id(rank->status.job_id());
  part.set_attempt(rank->status.attempt());
  part.set_step(*rank->writing_step);
  part.set_rank(rank->status.rank());
  part.set_world_size(rank->desired.world_size());
  part.set_bytes(1 << 20);
  part.set_worker(name_);
  part.set_job_uid(rank->desired.job_uid());
  disk_[PartKey(part)] = part;
  rank->writing_step.reset();
  if (!rank->ends_after_write) return;
  if (part.step() != rank->status.step()) {
    rank->writing_step = rank->status.step();  // The final one is still to be written.
    rank->writing_ticks = 1;
    return;
  }
  const bool is_done = part.step() >= rank->desired.spec().train().steps();
  End(rank, is_done ? v1::RANK_OUTCOME_COMPLETED : v1::RANK_OUTCOME_STOPPED,
      v1::REASON_UNSPECIFIED);
}

v1::WorkerSnapshot SimWorker::Snapshot() {
  v1::WorkerSnapshot snapshot;
  snapshot.set_worker(name_);
  snapshot.set_incarnation(incarnation_);
  snapshot.set_report_sequence(++report_sequence_);
  snapshot.set_address(name_ + ":7000");
  for (int i = 0; i < slots_; ++i) {
    v1::Slot* slot = snapshot.add_slots();
    slot->set_index(i);
    slot->set_device(v1::DEVICE_CPU);
  }
  snapshot.set_draining(draining_);
  snapshot.set_disk_free_bytes(disk_full_ ? 0 : int64_t{1} << 30);
  for (const auto& [key, rank] : ranks_) *snapshot.add_ranks() = rank.status;
  for (const auto& [key, part] : disk_) *snapshot.add_checkpoint_parts() = part;
  snapshot.set_applied_desired_revision(applied_revision_);
  return snapshot;
}

}  // namespace sinkforge::sim
