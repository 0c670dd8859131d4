// Call: one call of the coordinator under way: its time, and what it has changed so far.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "server/state/coordinator.h"
#include "server/state/model.h"

namespace sinkforge::server {

// Lives for the length of one public call. The functions of attempts.h, checkpoints.h, waiting.h
// and worker_link.h change the state through it, so that nothing changes without being stored.
class Call {
 public:
  Call(State* state, const base::Now& now) : state_(*state), now_(now) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  State& state() { return state_; }
  const base::Now& now() const { return now_; }
  const CoordinatorOptions& options() const { return state_.options; }

  // The record must be stored, and watchers told.
  void Store(const JobRecord& record);
  // Only watchers are told.
  void Watch(const JobRecord& record);
  void StoreNextJobNumber() { next_number_changed_ = true; }
  void StoreNamespace(const std::string& name) { namespaces_.insert(name); }
  void StoreDrain(const std::string& worker) { drains_.insert(worker); }
  // The record is about to be erased.
  void Deleted(const JobRecord& record);

  struct EventText {
    v1::EventKind kind = v1::EVENT_KIND_UNSPECIFIED;
    v1::Reason reason = v1::REASON_UNSPECIFIED;
    std::string message;
    int64_t step = 0;
    EventPlace place = {};  // empty: that of the attempt under way, where it is a single rank
  };
  // Also stores the record, which counts its events.
  void AddEvent(JobRecord* record, EventText text);
  // The move must be in the table. Sets reason, message and end time, adds the event.
  void Move(JobRecord* record, v1::JobState to, v1::Reason reason, const std::string& message);

  // What the worker is to do changed: its revision goes up, once a call.
  void Touch(WorkerRecord* worker);
  void Touch(const std::string& worker);
  // The worker may have missed its last DesiredState: the same again.
  void Resend(const WorkerRecord& worker) { touched_.insert(worker.name); }
  // Brings the scheduler's view of the worker up to date.
  void RefreshPool(const WorkerRecord& worker);

  void NoteWorker(WorkerNote::Kind kind, const WorkerRecord& worker);

  // Adds everything to `effects`, which may hold earlier calls.
  void Finish(Effects* effects);

 private:
  State& state_;
  const base::Now now_;
  std::set<int64_t> stored_;   // job numbers
  std::set<int64_t> watched_;  // job numbers
  std::set<std::string> touched_;
  std::set<std::string> revised_;
  std::vector<v1::Event> events_;
  std::map<std::pair<std::string, int64_t>, EventPlace> places_;
  std::vector<WorkerNote> worker_notes_;
  std::vector<std::string> deleted_;
  std::set<std::string> namespaces_;
  std::set<std::string> drains_;  // workers
  bool next_number_changed_ = false;
};

// At most `bytes_max` bytes of valid UTF-8, cut between characters.
std::string Truncate(const std::string& text, size_t bytes_max);

}  // namespace sinkforge::server
