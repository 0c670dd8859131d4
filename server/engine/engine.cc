// Group commit around the Coordinator; see engine.h.
#include "server/engine/engine.h"

#include <algorithm>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/log.h"
#include "server/state/worker_link.h"

namespace sinkforge::server {
namespace {

// Bounds how long the first call of a group waits for the rest.
constexpr int64_t kGroupMax = 256;
// And how long any call waits for what workers report, a few milliseconds, however many they are.
constexpr int64_t kReportsMax = 32;

absl::Status ShuttingDown() {
  return absl::UnavailableError("the coordinator is shutting down; try again in a moment");
}

absl::Status NotKept(const absl::Status& cause) {
  return absl::UnavailableError(
      absl::StrCat("the coordinator's store cannot be written: ", std::string(cause.message()),
                   "; nothing was kept, try again"));
}

double Seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

Engine::Engine(const EngineOptions& options, JobStore* store, const base::Clock* clock,
               const EngineMetrics& metrics, OnCommit on_commit)
    : options_(options),
      store_(store),
      clock_(clock),
      metrics_(metrics),
      on_commit_(std::move(on_commit)),
      queue_(options.queue) {}

Engine::~Engine() { Stop(); }

absl::Status Engine::Start() {
  SINKFORGE_REQUIRE(!thread_.joinable());
  const base::Now now = clock_->Read();
  const absl::Status loaded = Load(now);
  if (!loaded.ok()) return loaded;
  next_tick_ = now.monotonic;
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

void Engine::Stop() {
  queue_.Close();
  if (thread_.joinable()) thread_.join();
}

void Engine::Push(Item item, int64_t bytes, Lane lane) {
  const Done done = item.done;
  switch (queue_.Push(std::move(item), bytes, lane)) {
    case PushResult::kOk:
      return;
    case PushResult::kFull:
      return done(absl::ResourceExhaustedError(
          "the coordinator has too many calls waiting; try again in a moment"));
    case PushResult::kClosed:
      return done(ShuttingDown());
  }
}

void Engine::Mutate(Apply apply, Done done, int64_t bytes) {
  Push({std::move(apply), nullptr, std::move(done), absl::OkStatus()}, bytes);
}

absl::Status Engine::store_failure() const {
  base::MutexLock lock(&failure_mutex_);
  return store_failure_;
}

void Engine::OnStoreFailure(std::function<void(const absl::Status&)> tell) {
  base::MutexLock lock(&failure_mutex_);
  tell_failure_ = std::move(tell);
  if (tell_failure_) tell_failure_(store_failure_);
}

void Engine::Read(View view, Done failed) {
  if (reads_waiting_.fetch_add(1) >= options_.reads_waiting_max) {
    reads_waiting_.fetch_sub(1);
    return failed(absl::ResourceExhaustedError(
        "the coordinator has too many reads waiting; try again in a moment"));
  }
  View counted = [this, view = std::move(view)](const Coordinator& coordinator,
                                                const base::Now& now) {
    reads_waiting_.fetch_sub(1);
    view(coordinator, now);
  };
  Done counted_failed = [this, failed = std::move(failed)](const absl::Status& status) {
    reads_waiting_.fetch_sub(1);
    failed(status);
  };
  Push({nullptr, std::move(counted), std::move(counted_failed), absl::OkStatus()}, 0);
}

absl::Status Engine::ReadAndWait(const View& view) {
  std::promise<absl::Status> promise;
  Read(
      [&](const Coordinator& coordinator, const base::Now& now) {
        view(coordinator, now);
        promise.set_value(absl::OkStatus());
      },
      [&](const absl::Status& status) { promise.set_value(status); });
  return promise.get_future().get();
}

void Engine::Synchronize(std::shared_ptr<WorkerLink> link, v1::WorkerSnapshot snapshot, Done done) {
  const int64_t bytes = static_cast<int64_t>(snapshot.ByteSizeLong());
  auto shared = std::make_shared<v1::WorkerSnapshot>(std::move(snapshot));
  Apply apply = [this, link = std::move(link), shared](Coordinator& coordinator,
                                                       const base::Now& now, Effects* effects) {
    return TakeSnapshot(link, *shared, coordinator, now, effects);
  };
  Push({std::move(apply), nullptr, std::move(done), absl::OkStatus(), shared}, bytes, Lane::kBulk);
}

absl::Status Engine::TakeSnapshot(const std::shared_ptr<WorkerLink>& link,
                                  const v1::WorkerSnapshot& snapshot, Coordinator& coordinator,
                                  const base::Now& now, Effects* effects) {
  if (!links_closed_.ok()) {
    link->close(links_closed_);
    return links_closed_;
  }
  const absl::Status handled = coordinator.HandleSnapshot(snapshot, now, effects);
  if (!handled.ok()) return handled;
  Link& known = links_[snapshot.worker()];
  if (known.link != link) {
    if (known.link != nullptr) {
      known.link->close(absl::AbortedError(absl::StrCat(
          "worker ", snapshot.worker(), ": another stream of this worker has taken over")));
    }
    known = Link{link, snapshot.incarnation()};
  }
  reported_.insert(snapshot.worker());
  unrecorded_.erase(snapshot.worker());
  return absl::OkStatus();
}

void Engine::Disconnect(const std::shared_ptr<WorkerLink>& link) {
  Apply apply = [this, link](Coordinator& coordinator, const base::Now& now, Effects* effects) {
    const auto found = std::find_if(links_.begin(), links_.end(),
                                    [&](const auto& entry) { return entry.second.link == link; });
    if (found == links_.end()) return absl::OkStatus();
    coordinator.HandleDisconnect(found->first, found->second.incarnation, now, effects);
    links_.erase(found);
    return absl::OkStatus();
  };
  // Where this is not taken in, the worker's lease runs out: the outcome is the same. Behind what
  // came on the link.
  const Done done = [](const absl::Status&) {};
  Push({std::move(apply), nullptr, done, absl::OkStatus()}, 0, Lane::kBulk);
}

void Engine::CloseLinks(const absl::Status& status) {
  Mutate(
      [this, status](Coordinator&, const base::Now&, Effects*) {
        links_closed_ = status;
        for (const auto& [worker, link] : links_) link.link->close(status);
        links_.clear();
        return absl::OkStatus();
      },
      // Refused only where the engine has stopped: then nobody sends on the links any more.
      [](const absl::Status&) {}, 0);
}

void Engine::Loop() {
  while (!queue_.drained()) {
    const auto until_tick = next_tick_ - clock_->Read().monotonic;
    std::vector<Item> group =
        queue_.PopGroup(kGroupMax, std::max(until_tick, std::chrono::nanoseconds(0)), kReportsMax);
    Process(&group);
  }
}

void Engine::Process(std::vector<Item>* group) {
  const base::Now now = clock_->Read();
  Probe(now);
  Effects effects;
  reported_.clear();
  Change(group, now, &effects);
  absl::Status committed = absl::OkStatus();
  if (coordinator_ != nullptr) {
    committed = Commit(effects);
    if (committed.ok()) {
      if (effects.NeedsStore()) next_probe_ = now.monotonic + options_.probe_every;
      on_commit_(*coordinator_, effects);
    } else {
      Recover(committed, now);
    }
  }
  for (Item& item : *group) {
    if (item.apply != nullptr) {
      item.done(committed.ok() ? item.status : NotKept(committed));
    } else if (coordinator_ != nullptr) {
      item.view(*coordinator_, now);
    } else {
      item.done(NotKept(failure_));
    }
  }
  // After the answers: one call may change what hundreds of workers are to do.
  if (coordinator_ != nullptr && committed.ok()) Publish(effects, now);
}

void Engine::Change(std::vector<Item>* group, const base::Now& now, Effects* effects) {
  const bool refuse = !failure_.ok();
  // This process was stopped, or starved, or waited for its disk: what workers said meanwhile is
  // still to be taken in.
  const std::chrono::nanoseconds overdue = now.monotonic - next_tick_;
  if (!refuse && overdue >= options_.coordinator.lease / 2) coordinator_->HandleStall(overdue);
  for (Item& item : *group) {
    if (item.apply == nullptr) continue;
    item.status = refuse ? NotKept(failure_) : item.apply(*coordinator_, now, effects);
    if (refuse && item.snapshot != nullptr) NoteRefused(*item.snapshot, now);
  }
  if (!refuse && now.monotonic >= forget_unrecorded_at_) unrecorded_.clear();
  if (!refuse && now.monotonic >= next_tick_) coordinator_->Tick(now, effects);
  if (now.monotonic >= next_tick_) next_tick_ = now.monotonic + options_.tick;
  metrics_.scheduling->Observe(Seconds(clock_->Read().monotonic - now.monotonic));
}

absl::Status Engine::Commit(const Effects& effects) {
  if (!effects.NeedsStore()) return absl::OkStatus();
  const auto begin = clock_->Read().monotonic;
  const absl::Status written = store_->Write(effects);
  metrics_.store_write->Observe(Seconds(clock_->Read().monotonic - begin));
  return written;
}

void Engine::Publish(const Effects& effects, const base::Now& now) {
  std::set<std::string> workers(effects.changed_workers.begin(), effects.changed_workers.end());
  for (const std::string& worker : reported_) {
    const auto found = links_.find(worker);
    if (found == links_.end()) continue;
    // A worker that reports hears the whole state again once an interval: a lost one is healed.
    const auto sent = found->second.sent;
    const bool is_due =
        sent.count() < 0 || now.monotonic - sent >= options_.coordinator.snapshot_interval;
    if (is_due) workers.insert(worker);
  }
  for (const std::string& worker : workers) {
    const auto found = links_.find(worker);
    if (found == links_.end()) continue;
    found->second.sent = now.monotonic;
    found->second.link->send(coordinator_->Desired(worker));
  }
}

absl::Status Engine::Load(const base::Now& now) {
  auto stored = store_->Load();
  if (!stored.ok()) return stored.status();
  coordinator_ = std::make_unique<Coordinator>(options_.coordinator);
  coordinator_->LoadSettings(stored->namespaces, stored->drains);
  coordinator_->Load(std::move(stored->jobs), stored->next_job_number, now);
  return absl::OkStatus();
}

void Engine::Recover(const absl::Status& cause, const base::Now& now) {
  NoteStore(cause, now);
  coordinator_ = nullptr;
  const absl::Status loaded = Load(now);
  if (!loaded.ok()) NoteStore(loaded, now);
}

void Engine::Probe(const base::Now& now) {
  if (now.monotonic < next_probe_) return;
  absl::Status writable = store_->CheckWritable();
  // Loaded anew: a lease that ran out while no report was taken in counts for nothing.
  if (writable.ok() && !failure_.ok()) writable = Load(now);
  NoteStore(writable, now);
}

void Engine::NoteStore(const absl::Status& status, const base::Now& now) {
  next_probe_ = now.monotonic + (status.ok() ? options_.probe_every : options_.retry_after);
  if (failure_.ok() && status.ok()) return;
  if (failure_.ok()) {
    base::LogError("the store cannot be written; the coordinator stays at what is stored",
                   {{"error", std::string(status.message())}});
    if (coordinator_ != nullptr) {
      for (v1::Worker& worker : coordinator_->Workers()) {
        unrecorded_[worker.worker()] = std::move(worker);
      }
    }
  } else if (status.ok()) {
    base::LogInfo("the store can be written again", {});
    forget_unrecorded_at_ = now.monotonic + options_.coordinator.lease;
  }
  failure_ = status;
  base::MutexLock lock(&failure_mutex_);
  const bool changed = store_failure_.ok() != status.ok();
  store_failure_ = status;
  if (changed && tell_failure_) tell_failure_(status);
}

void Engine::NoteRefused(const v1::WorkerSnapshot& snapshot, const base::Now& now) {
  const auto known = unrecorded_.find(snapshot.worker());
  if (known == unrecorded_.end() &&
      static_cast<int>(unrecorded_.size()) >= options_.coordinator.worker_count_max) {
    return;
  }
  v1::Worker worker = DescribeSnapshot(snapshot, now.wall);
  if (known != unrecorded_.end() && known->second.incarnation() == worker.incarnation()) {
    *worker.mutable_used() = known->second.used();
    if (known->second.has_drain()) *worker.mutable_drain() = known->second.drain();
    if (known->second.state() != v1::WORKER_STATE_LOST) worker.set_state(known->second.state());
  }
  unrecorded_[snapshot.worker()] = std::move(worker);
}

std::vector<v1::Worker> Engine::Workers(const Coordinator& coordinator,
                                        const base::Now& now) const {
  std::map<std::string, v1::Worker> all;
  for (v1::Worker& worker : coordinator.Workers()) all[worker.worker()] = std::move(worker);
  for (const auto& [name, worker] : unrecorded_) {
    if (failure_.ok() && all.contains(name)) continue;
    v1::Worker& shown = all[name] = worker;
    const auto silent = now.wall - base::FromProto(worker.last_seen());
    if (silent >= options_.coordinator.lease) shown.set_state(v1::WORKER_STATE_LOST);
  }
  std::vector<v1::Worker> workers;
  workers.reserve(all.size());
  for (auto& [name, worker] : all) workers.push_back(std::move(worker));
  return workers;
}

v1::Job ViewOf(const Coordinator& coordinator, const v1::Job& job, const base::Now& now) {
  v1::Job view = job;
  const Explanation explanation = coordinator.Explain(job.job_id(), now);
  if (explanation.reason != v1::REASON_UNSPECIFIED) {
    view.set_reason(explanation.reason);
    view.set_message(explanation.message);
  }
  return view;
}

bool IsFinal(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

}  // namespace sinkforge::server
