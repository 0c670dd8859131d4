// Time, network and clients of the simulated cluster; see sim_cluster.h. The invariants are in
// invariants.cc.
#include "sim_cluster.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sinkforge::sim {
namespace {

constexpr int64_t kReportTicks = 10;  // a snapshot a second, a fifth of the lease
constexpr int64_t kReconnectTicks = 5;
constexpr int kNamespaces = 3;
constexpr int64_t kAwayTicksMax = 200;  // less than the time between a restore and its check
constexpr int kReusedNumbers = 3;

bool Happens(Random* random, int64_t one_in) { return one_in > 0 && random->OneIn(one_in); }

}  // namespace

SimCluster::SimCluster(const ClusterOptions& options) : options_(options), random_(options.seed) {
  now_.monotonic = std::chrono::hours(1);
  now_.wall = std::chrono::system_clock::time_point(std::chrono::hours(500000));
  for (int i = 0; i < options_.worker_count; ++i) {
    Link& link = links_.emplace_back();
    link.worker = std::make_unique<SimWorker>(
        absl::StrCat("w", i + 1), random_.Between(1, options_.slots_max), &board_, &random_);
    link.worker->Start();
  }
  coordinator_ = std::make_unique<server::Coordinator>(options_.coordinator);
  coordinator_->Load({}, 1, now_);
}

SimCluster::~SimCluster() = default;

void SimCluster::Fail(const std::string& what) {
  if (violation_.empty()) violation_ = absl::StrCat("tick ", tick_, ": ", what);
}

void SimCluster::Tick(const Faults& faults, Clients clients) {
  faults_ = faults;
  ++tick_;
  now_.monotonic += kTick;
  now_.wall += kTick;
  if (Happens(&random_, faults.jump_clock)) {
    ++counters_["clock jumps"];
    now_.wall += std::chrono::seconds(random_.Between(-1800, 1800));
    jumped_ = now_.monotonic;
  }
  if (Happens(&random_, faults.restart_coordinator)) RestartCoordinator();
  if (clients == Clients::kAct && random_.OneIn(8)) ActAsClient();
  for (Link& link : links_) TickLink(faults, &link);
  server::Effects effects;
  coordinator_->Tick(now_, &effects);
  Apply(effects);
  CheckState();
  if (tick_ % 16 == 0) CheckReload();
}

void SimCluster::RestartCoordinator() {
  ++counters_["coordinator restarts"];
  for (Link& link : links_) {
    link.up.clear();
    link.down.clear();
    link.open = false;
    link.next_report = tick_ + random_.Between(1, kReconnectTicks);
  }
  std::vector<v1::Job> jobs;
  for (const auto& [job_id, job] : stored_) jobs.push_back(job);
  // Another machine's monotonic clock.
  now_.monotonic = std::chrono::seconds(random_.Between(1, 100000));
  coordinator_ = std::make_unique<server::Coordinator>(options_.coordinator);
  std::vector<v1::Namespace> settings;
  for (const auto& [name, stored] : namespaces_) settings.push_back(stored);
  std::vector<v1::WorkerDrain> drains;
  for (const auto& [name, drain] : drains_) drains.push_back(drain);
  coordinator_->LoadSettings(settings, drains);
  coordinator_->Load(jobs, next_job_number_, now_);
  loaded_ = now_.monotonic;
  for (Link& link : links_) {
    link.heard = std::chrono::nanoseconds(0);
    link.heard_sequence = -1;
  }
}

void SimCluster::TakeBackup() {
  backup_ = stored_;
  backup_next_job_number_ = next_job_number_;
}

void SimCluster::SendHolderAway() {
  std::vector<Link*> holders;
  for (Link& link : links_) {
    const std::vector<v1::CheckpointPart> parts = link.worker->Parts();
    const bool is_holder = std::any_of(parts.begin(), parts.end(), [&](const auto& part) {
      return server::Coordinator::NumberOf(part.job_id()) >= backup_next_job_number_;
    });
    if (is_holder && link.worker->is_running()) holders.push_back(&link);
  }
  if (holders.empty()) return;
  Link* away = holders[static_cast<size_t>(random_.Below(static_cast<int64_t>(holders.size())))];
  BreakStream(away);
  away->worker->Kill();
  away->down_until = tick_ + random_.Between(1, kAwayTicksMax);
}

void SimCluster::ReuseNumbers() {
  for (int i = 0; i < kReusedNumbers; ++i) Submit();
}

void SimCluster::RestoreBackup() {
  stored_ = backup_;
  next_job_number_ = backup_next_job_number_;
  std::erase_if(acknowledged_, [&](const auto& entry) { return !stored_.contains(entry.second); });
  std::erase_if(deleted_, [&](const auto& job_id) {
    return stored_.contains(job_id) || server::Coordinator::NumberOf(job_id) >= next_job_number_;
  });
  board_ = GangBoard();
  for (const Link& link : links_) link.worker->NoteRestore();
  last_event_.clear();
  promised_steps_.clear();
  slots_before_.clear();
  for (const auto& [job_id, job] : stored_) {
    last_event_[job_id] = job.event_count();
    slots_before_[job.spec().namespace_()] += job.placement_size();
    if (job.state() == v1::JOB_STATE_SUCCEEDED || job.state() == v1::JOB_STATE_CANCELLED) continue;
    promised_steps_[job_id] = NewestStepOnDisks(job);
  }
  RestartCoordinator();
}

// Of attempts after the job's: what its workers have whole.
int64_t SimCluster::NewestStepOnDisks(const v1::Job& job) const {
  std::map<std::pair<int64_t, int64_t>, std::set<int32_t>> ranks;  // by attempt and step
  int64_t newest = 0;
  for (const Link& link : links_) {
    if (!link.worker->is_running() || link.worker->draining()) continue;  // it may go any time
    for (const v1::CheckpointPart& part : link.worker->Parts()) {
      if (part.job_id() != job.job_id() || part.attempt() <= job.attempt()) continue;
      std::set<int32_t>& have = ranks[{part.attempt(), part.step()}];
      have.insert(part.rank());
      if (static_cast<int>(have.size()) == part.world_size()) {
        newest = std::max(newest, part.step());
      }
    }
  }
  return newest;
}

void SimCluster::BreakStream(Link* link) {
  link->up.clear();
  link->down.clear();
  link->next_report = tick_ + random_.Between(1, kReconnectTicks);
  if (!link->open) return;
  link->open = false;
  server::Effects effects;
  coordinator_->HandleDisconnect(link->worker->name(), link->worker->incarnation(), now_, &effects);
  Apply(effects);
}

void SimCluster::TickLink(const Faults& faults, Link* link) {
  SimWorker& worker = *link->worker;
  if (!worker.is_running()) {
    if (tick_ < link->down_until) return;
    worker.Start();
    link->slow = Happens(&random_, faults.slow_worker);
    link->next_report = tick_;
  }
  const bool is_killed = Happens(&random_, faults.kill_worker);
  const bool is_patient = worker.may_leave() && tick_ >= link->next_report;
  const bool leaves = is_patient ? random_.OneIn(10) : worker.drained() && random_.OneIn(200);
  if (is_killed || leaves) {
    ++counters_[is_killed ? "worker kills" : is_patient ? "worker drains" : "worker hurries"];
    if (leaves && !Happens(&random_, faults.lose_message)) SayGoodbye(link);
    BreakStream(link);
    worker.Kill();
    if (is_killed && Happens(&random_, faults.wipe_disk)) worker.WipeDisk();
    // Sometimes back before the lease is over, sometimes after.
    link->down_until = tick_ + random_.Between(1, 100);
    return;
  }
  if (Happens(&random_, faults.drain_worker)) worker.Drain();
  if (Happens(&random_, faults.break_stream)) BreakStream(link);
  if (Happens(&random_, faults.flip_disk)) worker.FlipDisk();
  if (!link->slow || tick_ % 10 == 0) worker.Tick(faults.trainer);
  for (const Link& other : links_) worker.CopyFrom(*other.worker);
  if (tick_ >= link->next_report) {
    link->next_report = tick_ + kReportTicks;
    v1::WorkerSnapshot snapshot = worker.Snapshot();
    const int copies = Happens(&random_, faults.repeat_message) ? 2 : 1;
    for (int i = 0; i < copies && !Happens(&random_, faults.lose_message); ++i) {
      link->up.push_back({tick_ + random_.Below(faults.delay_ticks_max + 1), snapshot});
    }
  }
  Deliver(link);
}

// The last snapshot of a stream comes after all before it.
void SimCluster::SayGoodbye(Link* link) {
  link->up.clear();
  link->down.clear();
  v1::WorkerSnapshot last = link->worker->Snapshot();
  last.set_goodbye(true);
  link->up.push_back({tick_, last});
  Deliver(link);
}

void SimCluster::Deliver(Link* link) {
  for (size_t i = 0; i < link->up.size();) {
    if (link->up[i].due > tick_) {
      ++i;
      continue;
    }
    const v1::WorkerSnapshot snapshot = std::move(link->up[i].snapshot);
    link->up.erase(link->up.begin() + static_cast<int64_t>(i));
    server::Effects effects;
    const absl::Status status = coordinator_->HandleSnapshot(snapshot, now_, &effects);
    if (!status.ok()) {
      // Only possible where the old incarnation's stream seems open, which this network closes.
      Fail(absl::StrCat("snapshot refused: ", std::string(status.message())));
      return;
    }
    link->open = true;
    NoteHeard(snapshot, link);
    if (!Apply(effects)) return;  // Every stream is closed then.
  }
  for (size_t i = 0; i < link->down.size();) {
    if (link->down[i].due > tick_) {
      ++i;
      continue;
    }
    const v1::DesiredState desired = std::move(link->down[i].desired);
    link->down.erase(link->down.begin() + static_cast<int64_t>(i));
    const std::string wrong = link->worker->Apply(desired);
    if (!wrong.empty()) Fail(wrong);
  }
}

// Only what is newer than all before renews a lease.
void SimCluster::NoteHeard(const v1::WorkerSnapshot& snapshot, Link* link) {
  if (link->heard_incarnation != snapshot.incarnation()) {
    link->heard_incarnation = snapshot.incarnation();
    link->heard_sequence = -1;
  }
  if (snapshot.report_sequence() <= link->heard_sequence) return;
  link->heard_sequence = snapshot.report_sequence();
  link->heard = now_.monotonic;
  for (const v1::CheckpointPart& part : snapshot.checkpoint_parts()) {
    link->parts_since.emplace(PartKey(part), tick_);
    const auto job = stored_.find(part.job_id());
    if (job != stored_.end() && job->second.uid() != part.job_uid()) {
      ++counters_["parts of another job of the same name and number"];
    }
  }
}

bool SimCluster::Apply(const server::Effects& effects) {
  if (effects.NeedsStore() && Happens(&random_, faults_.fail_store)) {
    ++counters_["store failures"];
    RestartCoordinator();
    return false;
  }
  // Before the checks: what is set here lets jobs start in the same call.
  for (const v1::Namespace& settings : effects.namespaces) {
    namespaces_[settings.namespace_()] = settings;
  }
  for (const auto& [worker, drain] : effects.drains) {
    drains_.erase(worker);
    if (drain.has_value()) drains_[worker] = *drain;
  }
  CheckEffects(effects);
  for (const v1::Job& job : effects.jobs) stored_[job.job_id()] = job;
  for (const std::string& job_id : effects.deleted_jobs) {
    stored_.erase(job_id);
    deleted_.insert(job_id);
  }
  if (effects.next_job_number.has_value()) next_job_number_ = *effects.next_job_number;
  if (effects.NeedsStore() && Happens(&random_, faults_.crash_after_store)) {
    ++counters_["crashes after a write"];
    RestartCoordinator();
    return false;
  }
  for (const std::string& name : effects.changed_workers) {
    for (Link& link : links_) {
      if (link.worker->name() != name || !link.open) continue;
      if (Happens(&random_, faults_.lose_message)) continue;
      link.down.push_back(
          {tick_ + random_.Below(faults_.delay_ticks_max + 1), coordinator_->Desired(name)});
    }
  }
  return true;
}

void SimCluster::Submit() {
  if (static_cast<int>(stored_.size()) >= options_.jobs_max) return;
  v1::SubmitJobRequest request;
  // Now and then the client repeats an earlier request.
  const bool is_repeat = request_count_ > 0 && random_.OneIn(4);
  const int64_t number = is_repeat ? random_.Between(1, request_count_) : ++request_count_;
  request.set_request_id(absl::StrCat("r", number));
  request.mutable_spec()->set_name("sim");
  request.mutable_spec()->set_priority(static_cast<int32_t>(random_.Below(3)));
  request.mutable_spec()->mutable_train()->set_steps(random_.Between(1, 25));
  request.mutable_spec()->mutable_checkpoint()->set_keep(
      static_cast<int32_t>(random_.Between(1, 3)));
  request.mutable_spec()->mutable_resources()->set_device(v1::DEVICE_CPU);
  // At most one per worker, so that every job can run once the faults are over.
  const auto ranks = static_cast<int32_t>(random_.Between(1, options_.worker_count));
  request.mutable_spec()->mutable_resources()->set_ranks(ranks);
  request.mutable_spec()->mutable_resources()->set_min_ranks(
      random_.OneIn(2) ? ranks : static_cast<int32_t>(random_.Between(1, ranks)));
  request.mutable_spec()->set_namespace_(absl::StrCat("n", random_.Below(kNamespaces)));
  if (random_.OneIn(6)) request.mutable_spec()->set_deadline_hours(random_.Between(1, 20) / 60.0);
  if (random_.OneIn(4)) {
    request.set_sweep("sweep");
    request.set_sweep_running_max(kSweepRunningMax);
  }
  const auto known = acknowledged_.find(request.request_id());
  if (known != acknowledged_.end() && deleted_.contains(known->second)) return;
  server::Effects effects;
  const absl::StatusOr<v1::Job> job =
      coordinator_->Submit(request, {1, absl::StrCat("uid-", ++uid_count_)}, now_, &effects);
  if (!job.ok()) return Fail(std::string(job.status().message()));
  if (!Apply(effects)) return;  // The client hears UNAVAILABLE: it may have been kept or not.
  const auto [first, is_new] = acknowledged_.emplace(request.request_id(), job->job_id());
  if (first->second != job->job_id()) Fail("a repeated submission made another job");
  if (is_new) ++counters_["submissions"];
}

void SimCluster::ActAsClient() {
  if (random_.OneIn(10)) return ActOnSettings();
  const int64_t choice = random_.Below(10);
  if (choice < 4 || stored_.empty()) return Submit();
  auto it = stored_.begin();
  std::advance(it, random_.Below(static_cast<int64_t>(stored_.size())));
  v1::JobActionRequest action;
  action.set_job_id(it->first);
  action.set_request_id(absl::StrCat("a", tick_));
  server::Effects effects;
  if (choice < 6) {
    if (coordinator_->Pause(action, now_, &effects).ok()) ++counters_["pauses"];
  } else if (choice < 8) {
    if (coordinator_->Resume(action, now_, &effects).ok()) ++counters_["resumes"];
  } else if (choice == 8) {
    if (coordinator_->Cancel(action, now_, &effects).ok()) ++counters_["cancels"];
  } else if (random_.OneIn(2)) {
    const bool ok = coordinator_->Delete(action, now_, &effects).ok();
    Apply(effects);
    if (ok) ++counters_["deletes"];
    return;
  } else if (!it->second.checkpoints().empty()) {
    v1::DeleteCheckpointRequest request;
    request.set_job_id(it->first);
    request.set_step(it->second.checkpoints(0).step());
    if (coordinator_->DeleteCheckpoint(request, now_, &effects).ok()) {
      ++counters_["checkpoint deletes"];
    }
  }
  Apply(effects);
}

void SimCluster::ActOnSettings() {
  server::Effects effects;
  const std::string worker =
      links_[random_.Below(static_cast<int64_t>(links_.size()))].worker->name();
  if (random_.OneIn(2)) {
    ++counters_["quota changes"];
    v1::UpdateNamespaceRequest request;
    request.set_namespace_(absl::StrCat("n", random_.Below(kNamespaces)));
    request.set_weight(static_cast<double>(random_.Between(1, 3)));
    request.set_cpu_slots(static_cast<int32_t>(random_.Between(-1, 4)));
    static_cast<void>(coordinator_->UpdateNamespace(request, now_, &effects));
  } else if (random_.OneIn(3)) {
    ++counters_["drains by users"];
    v1::DrainWorkerRequest request;
    request.set_worker(worker);
    static_cast<void>(coordinator_->DrainWorker(request, now_, &effects));
  } else if (random_.OneIn(3)) {
    v1::ForgetWorkerRequest request;
    request.set_worker(worker);
    if (coordinator_->ForgetWorker(request, now_, &effects).ok()) ++counters_["workers forgotten"];
  } else {
    v1::UndrainWorkerRequest request;
    request.set_worker(worker);
    static_cast<void>(coordinator_->UndrainWorker(request, now_, &effects));
  }
  Apply(effects);
}

void SimCluster::Heal() {
  faults_ = Faults();
  for (Link& link : links_) {
    link.down_until = tick_;
    link.slow = false;
    server::Effects effects;
    v1::UndrainWorkerRequest request;
    request.set_worker(link.worker->name());
    static_cast<void>(coordinator_->UndrainWorker(request, now_, &effects));
    Apply(effects);
  }
  for (int i = 0; i < kNamespaces; ++i) {
    server::Effects effects;
    v1::UpdateNamespaceRequest request;
    request.set_namespace_(absl::StrCat("n", i));
    request.set_cpu_slots(-1);
    static_cast<void>(coordinator_->UpdateNamespace(request, now_, &effects));
    Apply(effects);
  }
  std::vector<std::string> paused;
  for (const auto& [job_id, job] : stored_) {
    if (job.state() == v1::JOB_STATE_PAUSED || job.pause_requested()) paused.push_back(job_id);
  }
  for (const std::string& job_id : paused) {
    v1::JobActionRequest action;
    action.set_job_id(job_id);
    server::Effects effects;
    static_cast<void>(coordinator_->Resume(action, now_, &effects));
    Apply(effects);
  }
}

bool SimCluster::AllJobsAreFinal() const {
  return std::all_of(stored_.begin(), stored_.end(), [](const auto& entry) {
    const v1::JobState state = entry.second.state();
    return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
           state == v1::JOB_STATE_CANCELLED;
  });
}

std::string SimCluster::Summary() const {
  std::string text;
  for (const auto& [job_id, job] : stored_) {
    const server::Explanation why = coordinator_->Explain(job_id, now_);
    absl::StrAppend(&text, job_id, " ", v1::JobState_Name(job.state()), " attempt ", job.attempt(),
                    ": ", v1::Reason_Name(why.reason), ": ", why.message, "\n");
  }
  for (const v1::Worker& worker : coordinator_->Workers()) {
    absl::StrAppend(&text, worker.ShortDebugString(), "\n");
  }
  return text;
}

}  // namespace sinkforge::sim
