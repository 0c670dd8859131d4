// Recording what a call changes; see call.h.
#include "server/state/call.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "server/state/job_moves.h"
#include "server/state/time_ledger.h"

namespace sinkforge::server {
namespace {

constexpr size_t kMessageBytesMax = 4096;  // A whole stack trace belongs into the logs.

void InsertSorted(std::vector<std::string>* sorted, const std::string& value) {
  const auto it = std::lower_bound(sorted->begin(), sorted->end(), value);
  if (it == sorted->end() || *it != value) sorted->insert(it, value);
}

bool IsBeingLeft(const WorkerRecord& worker, int32_t slot) {
  return std::any_of(worker.removals.begin(), worker.removals.end(),
                     [&](const Removal& removal) { return removal.slot == slot; });
}

bool SlotIsFree(const WorkerRecord& worker, int32_t slot) {
  if (worker.assigned.contains(slot)) return false;
  if (IsBeingLeft(worker, slot)) return false;
  for (const v1::RankStatus& rank : worker.snapshot.ranks()) {
    if (rank.slot() == slot && rank.phase() != v1::RANK_PHASE_ENDED) return false;
  }
  return true;
}

}  // namespace

std::string Truncate(const std::string& text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

void Call::Store(const JobRecord& record) {
  stored_.insert(record.number);
  watched_.insert(record.number);
}

void Call::Watch(const JobRecord& record) { watched_.insert(record.number); }

void Call::Deleted(const JobRecord& record) {
  stored_.erase(record.number);
  watched_.erase(record.number);
  std::erase_if(events_,
                [&](const v1::Event& event) { return event.job_id() == record.job.job_id(); });
  deleted_.push_back(record.job.job_id());
}

void Call::AddEvent(JobRecord* record, EventText text) {
  v1::Job& job = record->job;
  job.set_event_count(job.event_count() + 1);
  v1::Event& event = events_.emplace_back();
  event.set_job_id(job.job_id());
  event.set_sequence(job.event_count());
  *event.mutable_time() = base::ToProto(now_.wall);
  event.set_kind(text.kind);
  event.set_reason(text.reason);
  event.set_message(Truncate(text.message, kMessageBytesMax));
  event.set_attempt(job.attempt());
  event.set_step(text.step);
  if (text.place.worker.empty() && record->attempt.has_value() &&
      record->attempt->ranks.size() == 1) {
    text.place = {record->attempt->ranks[0].placement.worker(), 0};
  }
  if (!text.place.worker.empty()) {
    places_[{event.job_id(), event.sequence()}] = std::move(text.place);
  }
  Store(*record);
}

void Call::Move(JobRecord* record, v1::JobState to, v1::Reason reason, const std::string& message) {
  v1::Job& job = record->job;
  SINKFORGE_REQUIRE(CanMove(job.state(), to));
  --state_.count_by_state[static_cast<size_t>(job.state())];
  ++state_.count_by_state[static_cast<size_t>(to)];
  AccountTime(to, now_.wall, &job);
  job.set_state(to);
  GoBackToNewest(&job);
  job.set_reason(reason);
  job.set_message(Truncate(message, kMessageBytesMax));
  if (IsFinal(to)) {
    *job.mutable_end_time() = base::ToProto(now_.wall);
  } else {
    job.clear_end_time();
  }
  AddEvent(record, {v1::EVENT_KIND_STATE_CHANGED, reason, message, job.progress().step()});
}

void Call::Touch(WorkerRecord* worker) {
  if (revised_.insert(worker->name).second) ++worker->revision;
  touched_.insert(worker->name);
}

void Call::Touch(const std::string& worker) {
  WorkerRecord* record = state_.FindWorker(worker);
  if (record != nullptr) Touch(record);
}

void Call::RefreshPool(const WorkerRecord& worker) {
  state_.takers.Update(worker);
  if (!worker.reported || !worker.alive) {
    state_.cluster.pool.Erase(worker.name);
    return;
  }
  scheduler::WorkerView view;
  view.worker = worker.name;
  view.incarnation = worker.incarnation;
  // One that drains goes away in the middle of a read.
  view.serves_checkpoints = !worker.snapshot.draining();
  if (worker.drained && !worker.snapshot.draining()) {
    for (const v1::Slot& slot : worker.snapshot.slots()) ++view.drained[slot.device()];
  }
  if (worker.takes_work()) {
    for (const v1::Slot& slot : worker.snapshot.slots()) {
      scheduler::DeviceSlots& slots = view.slots[slot.device()];
      ++slots.total;
      // Work waits for the stream: what cannot be sent now may start sooner elsewhere.
      if (worker.connected && SlotIsFree(worker, slot.index())) slots.free.push_back(slot.index());
      slots.leaving += IsBeingLeft(worker, slot.index()) ? 1 : 0;
    }
    for (auto& [device, slots] : view.slots) std::sort(slots.free.begin(), slots.free.end());
  }
  state_.cluster.pool.Update(std::move(view));
}

void Call::NoteWorker(WorkerNote::Kind kind, const WorkerRecord& worker) {
  worker_notes_.push_back(
      {kind, worker.name, worker.snapshot.address(), worker.snapshot.slots_size()});
}

void Call::Finish(Effects* effects) {
  for (const std::string& job_id : deleted_) {
    const auto of_job = [&](const auto& message) { return message.job_id() == job_id; };
    std::erase_if(effects->jobs, of_job);
    std::erase_if(effects->events, of_job);
    effects->deleted_jobs.push_back(job_id);
    InsertSorted(&effects->changed_jobs, job_id);
  }
  for (const int64_t number : stored_) {
    JobRecord& record = state_.jobs.at(number);
    record.stored_at = now_.monotonic;
    const auto earlier =
        std::find_if(effects->jobs.begin(), effects->jobs.end(),
                     [&](const v1::Job& job) { return job.job_id() == record.job.job_id(); });
    if (earlier != effects->jobs.end()) {
      *earlier = record.job;
    } else {
      effects->jobs.push_back(record.job);
    }
  }
  for (v1::Event& event : events_) effects->events.push_back(std::move(event));
  effects->event_places.merge(places_);
  for (WorkerNote& note : worker_notes_) effects->worker_notes.push_back(std::move(note));
  for (const int64_t number : watched_) {
    InsertSorted(&effects->changed_jobs, state_.jobs.at(number).job.job_id());
  }
  for (const std::string& worker : touched_) InsertSorted(&effects->changed_workers, worker);
  for (const std::string& name : namespaces_) {
    effects->namespaces.push_back(state_.cluster.shares.settings().at(name));
  }
  for (const std::string& name : drains_) {
    const auto drain = state_.drains.find(name);
    effects->drains[name] =
        drain == state_.drains.end() ? std::nullopt : std::make_optional(drain->second);
  }
  if (next_number_changed_) effects->next_job_number = state_.next_job_number;
}

}  // namespace sinkforge::server
