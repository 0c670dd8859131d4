// What must hold after every step of a simulation, whatever has failed so far.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/state/job_moves.h"
#include "server/state/model.h"
#include "sim_cluster.h"

namespace sinkforge::sim {
namespace {

bool HasCheckpoint(const v1::Job& job, int64_t attempt, int64_t step) {
  return std::any_of(job.checkpoints().begin(), job.checkpoints().end(),
                     [&](const v1::Checkpoint& checkpoint) {
                       return checkpoint.attempt() == attempt && checkpoint.step() == step;
                     });
}

// Progress is stored now and then only: it may differ.
std::string Comparable(const v1::Job& job) {
  v1::Job copy = job;
  copy.clear_progress();
  return copy.SerializeAsString();
}

}  // namespace

void SimCluster::CheckEffects(const server::Effects& effects) {
  for (const v1::Event& event : effects.events) {
    int64_t& last = last_event_[event.job_id()];
    if (event.sequence() != last + 1) {
      Fail(absl::StrCat(event.job_id(), ": event ", event.sequence(), " after ", last));
    }
    last = event.sequence();
    ++counters_[v1::EventKind_Name(event.kind())];
    if (event.kind() == v1::EVENT_KIND_ATTEMPT_ENDED) CheckEnd(event);
  }
  std::set<std::string> seen;
  for (const v1::Job& job : effects.jobs) {
    if (!seen.insert(job.job_id()).second) Fail(job.job_id() + ": twice in one batch");
    if (job.event_count() != last_event_[job.job_id()]) {
      Fail(absl::StrCat(job.job_id(), ": counts ", job.event_count(), " events of ",
                        last_event_[job.job_id()]));
    }
    const auto before = stored_.find(job.job_id());
    CheckOwnership(job);
    const bool is_start = server::HasAttempt(job.state()) &&
                          (before == stored_.end() || before->second.attempt() < job.attempt());
    if (is_start) CheckStart(job);
    if (before == stored_.end()) continue;
    if (job.attempt() < before->second.attempt()) Fail(job.job_id() + ": attempt went back");
    if (before->second.state() == v1::JOB_STATE_SUCCEEDED &&
        job.state() != v1::JOB_STATE_SUCCEEDED) {
      Fail(job.job_id() + ": left SUCCEEDED");
    }
    CheckCommit(before->second, job);
  }
}

// Another job's checkpoints, of the same name and number, are never taken for the job's.
void SimCluster::CheckOwnership(const v1::Job& job) {
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    for (const auto* parts : {&checkpoint.parts(), &checkpoint.copies()}) {
      for (const v1::CheckpointPart& part : *parts) {
        if (part.job_uid() == job.uid()) continue;
        Fail(absl::StrCat(job.job_id(), ": took a part of another job: ", part.ShortDebugString()));
      }
    }
  }
}

// Invariant 2: a rank of an old attempt cannot commit; and what is committed is really there.
void SimCluster::CheckCommit(const v1::Job& before, const v1::Job& after) {
  const v1::Checkpoint* newest = nullptr;
  for (const v1::Checkpoint& checkpoint : after.checkpoints()) {
    if (HasCheckpoint(before, checkpoint.attempt(), checkpoint.step())) continue;
    // After a restore, later attempts are adopted.
    if (checkpoint.attempt() < before.attempt() || checkpoint.attempt() > after.attempt() ||
        (checkpoint.attempt() > before.attempt() && promised_steps_.empty())) {
      Fail(absl::StrCat(after.job_id(), ": attempt ", checkpoint.attempt(),
                        " committed while the last one was ", before.attempt()));
    }
    const int world_size = checkpoint.parts().empty() ? 0 : checkpoint.parts(0).world_size();
    const int expected =
        checkpoint.attempt() == before.attempt() ? before.world_size() : world_size;
    if (checkpoint.parts_size() != expected) {
      Fail(absl::StrCat(after.job_id(), ": step ", checkpoint.step(), " committed with ",
                        checkpoint.parts_size(), " parts"));
    }
    std::vector<v1::CheckpointPart> parts(checkpoint.parts().begin(), checkpoint.parts().end());
    parts.insert(parts.end(), checkpoint.copies().begin(), checkpoint.copies().end());
    for (const v1::CheckpointPart& part : parts) {
      const auto holder = std::find_if(links_.begin(), links_.end(), [&](const Link& link) {
        return link.worker->name() == part.worker();
      });
      if (part.attempt() != checkpoint.attempt() || part.step() != checkpoint.step() ||
          holder == links_.end() || !holder->worker->HasPart(part)) {
        Fail(absl::StrCat(after.job_id(),
                          ": committed a part that is not there: ", part.ShortDebugString()));
      }
    }
    newest = &checkpoint;
  }
  // An attempt that ends, and a newer checkpoint, take along what is there.
  const bool goes_on = server::HasAttempt(after.state()) && after.attempt() == before.attempt();
  if (newest != nullptr && goes_on) CheckCopies(after, *newest);
}

// While an attempt goes on, and another worker could take a copy, nothing is committed on one
// worker alone before its time is over.
void SimCluster::CheckCopies(const v1::Job& job, const v1::Checkpoint& checkpoint) {
  std::map<int32_t, std::set<std::string>> holders;
  int64_t complete_since = 0;
  for (const v1::CheckpointPart& part : checkpoint.parts()) {
    holders[part.rank()].insert(part.worker());
    int64_t since = tick_;
    for (const Link& link : links_) {
      const auto heard = link.parts_since.find(PartKey(part));
      if (heard != link.parts_since.end()) since = std::min(since, heard->second);
    }
    complete_since = std::max(complete_since, since);
  }
  for (const v1::CheckpointPart& copy : checkpoint.copies()) {
    holders[copy.rank()].insert(copy.worker());
  }
  const std::vector<v1::Worker> workers = coordinator_->Workers();
  std::string could_copy;
  bool is_thin = false;
  for (const v1::CheckpointPart& part : checkpoint.parts()) {
    if (holders[part.rank()].size() > 1) continue;
    is_thin = true;
    for (const v1::Worker& worker : workers) {
      const bool stays = worker.state() == v1::WORKER_STATE_LIVE;
      if (worker.worker() == part.worker()) {
        if (!stays) return;  // it must not be kept waiting
      } else if (stays && worker.disk_free_bytes() >= part.bytes()) {
        could_copy = worker.worker();
      }
    }
  }
  ++counters_[is_thin ? "commits on one worker" : "commits on two workers"];
  if (could_copy.empty()) return;
  if ((tick_ - complete_since) * kTick >= options_.coordinator.commit_patience) {
    ++counters_["commits without a late copy"];
    return;
  }
  Fail(absl::StrCat(job.job_id(), ": step ", checkpoint.step(), " is committed on one worker, ",
                    tick_ - complete_since, " ticks after it was complete, though ", could_copy,
                    " could take a copy"));
}

// What workers had that was newer than the backup counts, or something newer does.
void SimCluster::CheckRestored() {
  for (const auto& [job_id, step] : promised_steps_) {
    const auto job = stored_.find(job_id);
    if (job == stored_.end() || step == 0) continue;
    ++counters_["steps adopted after a restore"];
    const v1::Checkpoint* newest = server::NewestCheckpoint(job->second);
    if (newest == nullptr || newest->step() < step) {
      Fail(absl::StrCat(job_id, ": its checkpoint of step ", step,
                        " was lost after the restore of a backup"));
    }
  }
}

void SimCluster::CheckState() {
  for (const auto& [request_id, job_id] : acknowledged_) {
    if (!deleted_.contains(job_id) && coordinator_->Find(job_id) == nullptr) {
      Fail(job_id + ": was acknowledged and is gone");
    }
  }
  std::array<int64_t, v1::JobState_ARRAYSIZE> count{};
  for (const auto& [job_id, job] : stored_) {
    const v1::Job* live = coordinator_->Find(job_id);
    if (live == nullptr) return Fail(job_id + ": stored but not known");
    if (Comparable(*live) != Comparable(job)) {
      Fail(absl::StrCat(job_id, ": the store does not have its last value: ",
                        job.ShortDebugString(), " / ", live->ShortDebugString()));
    }
    ++count[static_cast<size_t>(job.state())];
    const bool has_attempt = server::HasAttempt(job.state());
    if (coordinator_->IsCurrentAttempt(job_id, job.attempt()) != has_attempt ||
        job.placement_size() != (has_attempt ? job.world_size() : 0)) {
      Fail(job_id + ": placement does not fit the state");
    }
    if (!has_attempt && (job.stop_reason() != v1::REASON_UNSPECIFIED || !job.lent_from().empty())) {
      Fail(job_id + ": what an attempt was asked for outlives it");
    }
    if (!job.lent_from().empty()) {
      const auto lender = stored_.find(job.lent_from());
      if (lender == stored_.end() || lender->second.state() != v1::JOB_STATE_QUEUED) {
        Fail(absl::StrCat(job_id, ": runs on slots of ", job.lent_from(), ", which does not wait"));
      }
    }
    if (job.state() == v1::JOB_STATE_SUCCEEDED && job.reason() != v1::REASON_COMPLETED) {
      Fail(job_id + ": SUCCEEDED for another reason than completion");
    }
  }
  if (count != coordinator_->CountByState()) Fail("counts by state are wrong");
  CheckHolderWaits();
  CheckDesired();
  CheckLimits();
}

// No job waits for a worker that has its checkpoint where live workers have all of it. Right after
// a start, the coordinator waits for those that it expects back.
void SimCluster::CheckHolderWaits() {
  if (now_.monotonic - loaded_ <= options_.coordinator.lease + kTick) return;
  std::set<std::string> live;
  for (const v1::Worker& worker : coordinator_->Workers()) {
    if (worker.state() == v1::WORKER_STATE_LIVE) live.insert(worker.worker());
  }
  for (const auto& [job_id, stored] : stored_) {
    const v1::Job& job = *coordinator_->Find(job_id);
    if (job.state() != v1::JOB_STATE_QUEUED) continue;
    const server::Explanation why = coordinator_->Explain(job_id, now_);
    if (why.reason != v1::REASON_WAITING_FOR_CHECKPOINT_HOLDER) continue;
    const v1::Checkpoint* newest = server::NewestCheckpoint(job);
    if (newest == nullptr) continue;
    ++counters_["waits for a holder"];
    const bool is_there =
        std::all_of(newest->parts().begin(), newest->parts().end(), [&](const auto& part) {
          return live.contains(part.worker()) ||
                 std::any_of(newest->copies().begin(), newest->copies().end(), [&](const auto& c) {
                   return c.rank() == part.rank() && live.contains(c.worker());
                 });
        });
    if (is_there) {
      Fail(absl::StrCat(job_id, ": waits though live workers have its checkpoint: ", why.message));
    }
  }
}

// Invariant 5, and what a lease promises: nobody is taken for lost who was heard of within it, by
// this coordinator or since it started.
void SimCluster::CheckEnd(const v1::Event& event) {
  ++counters_[v1::Reason_Name(event.reason())];
  if (event.reason() != v1::REASON_WORKER_LOST) return;
  for (const Link& link : links_) {
    const std::string silent = absl::StrCat("worker ", link.worker->name(), " has not been heard");
    if (event.message().rfind(silent, 0) != 0) continue;
    const auto heard = std::max(link.heard, loaded_);
    if (now_.monotonic - heard < options_.coordinator.lease) {
      Fail(absl::StrCat(event.job_id(),
                        ": ended though its worker had been heard of: ", event.message()));
    }
  }
}

// A new attempt is of a size that the job allows, and not on a drained worker.
void SimCluster::CheckStart(const v1::Job& job) {
  const v1::ResourceSpec& resources = job.spec().resources();
  if (job.world_size() < resources.min_ranks() || job.world_size() > resources.ranks()) {
    Fail(absl::StrCat(job.job_id(), ": started with ", job.world_size(), " ranks"));
  }
  if (job.world_size() < resources.ranks()) ++counters_["elastic starts"];
  for (const v1::RankPlacement& rank : job.placement()) {
    if (drains_.contains(rank.worker())) {
      Fail(absl::StrCat(job.job_id(), ": started on ", rank.worker(), ", which is drained"));
    }
  }
  CheckAvoidance(job);
}

// Nobody starts on an unfit worker where the others have slots enough.
void SimCluster::CheckAvoidance(const v1::Job& job) {
  if (now_.monotonic - jumped_ <= options_.coordinator.avoid_worker_for) return;
  std::set<std::string> unfit;
  for (const v1::AvoidedWorker& avoided : job.avoided_workers()) {
    const bool is_over = base::FromProto(avoided.until()) <= now_.wall;
    if (avoided.unfit() && !is_over) unfit.insert(avoided.worker());
  }
  if (unfit.empty()) return;
  int elsewhere = 0;
  for (const v1::Worker& worker : coordinator_->Workers()) {
    const bool is_in_use = worker.state() == v1::WORKER_STATE_LIVE;
    if (is_in_use && !unfit.contains(worker.worker())) elsewhere += worker.slots_size();
  }
  const bool is_unfit =
      std::any_of(job.placement().begin(), job.placement().end(),
                  [&](const auto& rank) { return unfit.contains(rank.worker()); });
  ++counters_[is_unfit ? "starts on an unfit worker for want of others"
                       : "starts that avoid a worker"];
  if (is_unfit && elsewhere >= std::max(1, job.spec().resources().min_ranks())) {
    Fail(absl::StrCat(job.job_id(), ": started on an unfit worker, though ", elsewhere,
                      " slots are elsewhere: ", job.ShortDebugString()));
  }
}

// Nobody starts beyond the quota of a namespace or the limit of a sweep.
void SimCluster::CheckLimits() {
  std::map<std::string, int> slots;
  int in_sweep = 0;
  for (const auto& [job_id, job] : stored_) {
    if (job.reason() == v1::REASON_WAITING_FOR_SWEEP) ++counters_["held by a sweep"];
    if (!server::HasAttempt(job.state())) continue;
    slots[job.spec().namespace_()] += job.placement_size();
    in_sweep += job.sweep().empty() ? 0 : 1;
  }
  if (in_sweep > kSweepRunningMax) Fail(absl::StrCat("the sweep runs ", in_sweep, " jobs"));
  for (const auto& [name, used] : slots) {
    const auto settings = namespaces_.find(name);
    if (settings == namespaces_.end() || !settings->second.has_cpu_slots()) continue;
    if (used > settings->second.cpu_slots() && used > slots_before_[name]) {
      Fail(absl::StrCat("namespace ", name, " was given ", used, " slots of ",
                        settings->second.cpu_slots()));
    }
  }
  slots_before_ = std::move(slots);
}

// Invariant 2: a slot never runs two attempts, an attempt never runs with a missing rank.
void SimCluster::CheckDesired() {
  std::set<std::tuple<std::string, std::string, int32_t>> slots;
  for (const auto& [job_id, job] : stored_) {
    std::set<int32_t> ranks;
    for (const v1::RankPlacement& rank : job.placement()) {
      ranks.insert(rank.rank());
      if (!slots.emplace(rank.worker(), rank.incarnation(), rank.slot()).second) {
        Fail(absl::StrCat(job_id, ": slot ", rank.slot(), " of ", rank.worker(), " is used twice"));
      }
    }
    if (static_cast<int>(ranks.size()) != job.placement_size()) Fail(job_id + ": a rank is twice");
  }
  for (const Link& link : links_) {
    const std::string& name = link.worker->name();
    const v1::DesiredState desired = coordinator_->Desired(name);
    for (const v1::DesiredRank& rank : desired.ranks()) {
      const auto job = stored_.find(rank.job_id());
      if (job == stored_.end() || job->second.attempt() != rank.attempt() ||
          !server::HasAttempt(job->second.state())) {
        Fail(absl::StrCat(name, " is to run ", rank.job_id(), " attempt ", rank.attempt(),
                          ", which is over"));
        continue;
      }
      const v1::RankPlacement& placement = job->second.placement(rank.rank());
      if (placement.worker() != name || placement.slot() != rank.slot()) {
        Fail(absl::StrCat(rank.job_id(), ": rank ", rank.rank(),
                          " is wanted where it is not placed"));
      }
    }
  }
}

// A coordinator that is loaded from the store now knows what this one knows.
void SimCluster::CheckReload() {
  server::Coordinator other(options_.coordinator);
  std::vector<v1::Job> jobs;
  for (const auto& [job_id, job] : stored_) jobs.push_back(job);
  std::vector<v1::Namespace> settings;
  for (const auto& [name, stored] : namespaces_) settings.push_back(stored);
  std::vector<v1::WorkerDrain> drains;
  for (const auto& [name, drain] : drains_) drains.push_back(drain);
  other.LoadSettings(settings, drains);
  other.Load(jobs, next_job_number_, now_);
  if (other.next_job_number() != coordinator_->next_job_number()) Fail("the job number is lost");
  if (other.CountByState() != coordinator_->CountByState()) Fail("a restart changes the counts");
  for (const v1::Job& job : jobs) {
    const v1::Job* live = coordinator_->Find(job.job_id());
    const v1::Job* loaded = other.Find(job.job_id());
    if (live == nullptr || loaded == nullptr || Comparable(*live) != Comparable(*loaded)) {
      Fail(job.job_id() + ": a restart changes it");
    }
  }
  for (const Link& link : links_) {
    // Every rank that is wanted now is wanted after a restart too: nothing healthy is disturbed.
    std::set<std::tuple<std::string, int64_t, int32_t>> wanted;
    const v1::DesiredState after = other.Desired(link.worker->name());
    const v1::DesiredState before = coordinator_->Desired(link.worker->name());
    for (const auto& rank : after.ranks()) {
      wanted.emplace(rank.job_id(), rank.attempt(), rank.rank());
    }
    for (const auto& rank : before.ranks()) {
      if (!wanted.contains({rank.job_id(), rank.attempt(), rank.rank()})) {
        Fail(absl::StrCat(rank.job_id(), ": a restart would stop rank ", rank.rank()));
      }
    }
  }
}

}  // namespace sinkforge::sim
