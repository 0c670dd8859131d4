// Questions to the model that need no time; see model.h.
#include "server/state/model.h"

#include <algorithm>

#include "server/state/job_moves.h"

namespace sinkforge::server {

JobRecord* State::Find(const std::string& job_id) {
  return const_cast<JobRecord*>(std::as_const(*this).Find(job_id));
}

const JobRecord* State::Find(const std::string& job_id) const {
  const auto it = jobs.find(Coordinator::NumberOf(job_id));
  return it == jobs.end() || it->second.job.job_id() != job_id ? nullptr : &it->second;
}

WorkerRecord* State::FindWorker(const std::string& name) {
  const auto it = workers.find(name);
  return it == workers.end() ? nullptr : &it->second;
}

const WorkerRecord* State::FindWorker(const std::string& name) const {
  const auto it = workers.find(name);
  return it == workers.end() ? nullptr : &it->second;
}

void Takers::Update(const WorkerRecord& worker) {
  if (worker.reported && worker.alive && worker.snapshot.draining()) {
    stopping_.insert(worker.name);
  } else {
    stopping_.erase(worker.name);
  }
  const size_t load = worker.parts.size() + worker.copying.size();
  const auto known = load_.find(worker.name);
  if (known != load_.end()) {
    if (worker.takes_work() && known->second == load) return;
    by_load_.erase({known->second, worker.name});
    load_.erase(known);
  }
  if (!worker.takes_work()) return;
  load_.emplace(worker.name, load);
  by_load_.emplace(load, worker.name);
}

int WorldSize(const v1::Job& job) {
  return std::max(1, job.world_size() > 0 ? job.world_size() : job.spec().resources().ranks());
}

bool MayBeOf(const v1::Job& job, const v1::CheckpointPart& part) {
  return part.job_uid().empty() || part.job_uid() == job.uid();
}

const v1::Checkpoint* NewestCheckpoint(const v1::Job& job) {
  for (int i = job.checkpoints_size() - 1; i >= 0; --i) {
    if (!job.checkpoints(i).deleting()) return &job.checkpoints(i);
  }
  return nullptr;
}

v1::Checkpoint* NewestCheckpoint(v1::Job* job) {
  return const_cast<v1::Checkpoint*>(NewestCheckpoint(std::as_const(*job)));
}

const v1::Checkpoint* RestoreOf(const v1::Job& job) {
  for (int i = job.checkpoints_size() - 1; i >= 0; --i) {
    const v1::Checkpoint& checkpoint = job.checkpoints(i);
    if (!checkpoint.deleting() && checkpoint.attempt() < job.attempt()) return &checkpoint;
  }
  return nullptr;
}

std::vector<std::string> HoldersOf(const v1::Checkpoint& checkpoint) {
  std::set<std::string> holders;
  for (const v1::CheckpointPart& part : checkpoint.parts()) holders.insert(part.worker());
  for (const v1::CheckpointPart& copy : checkpoint.copies()) holders.insert(copy.worker());
  return {holders.begin(), holders.end()};
}

std::vector<std::string> FirstHoldersOf(const v1::Checkpoint& checkpoint) {
  std::set<std::string> holders;
  for (const v1::CheckpointPart& part : checkpoint.parts()) holders.insert(part.worker());
  return {holders.begin(), holders.end()};
}

bool IsToStop(const State& state, const JobRecord& record) {
  if (record.job.pause_requested()) return true;
  if (record.job.stop_reason() != v1::REASON_UNSPECIFIED) return true;
  if (!record.attempt.has_value()) return false;
  for (const RankState& rank : record.attempt->ranks) {
    const WorkerRecord* worker = state.FindWorker(rank.placement.worker());
    if (worker != nullptr && worker->reported && worker->leaving()) return true;
  }
  return false;
}

PartFate FateOf(const State& state, const PartKey& key) {
  const JobRecord* record = state.Find(key.job_id);
  if (record == nullptr) return PartFate::kDrop;
  const v1::Job& job = record->job;
  int64_t newest_of_attempt = -1;
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    if (checkpoint.attempt() != key.attempt) continue;
    if (checkpoint.step() == key.step) {
      return checkpoint.deleting() ? PartFate::kDrop : PartFate::kCommitted;
    }
    newest_of_attempt = std::max(newest_of_attempt, checkpoint.step());
  }
  if (record->lost.contains({key.attempt, key.step})) return PartFate::kDrop;
  const bool over =
      job.state() == v1::JOB_STATE_SUCCEEDED || job.state() == v1::JOB_STATE_CANCELLED;
  if (record->adoption.has_value() && key.attempt > job.attempt() && !over) {
    return PartFate::kPending;
  }
  // The fence: what another attempt than the last wrote can never be committed.
  if (key.attempt != job.attempt() || key.step < newest_of_attempt) return PartFate::kDrop;
  return over ? PartFate::kDrop : PartFate::kPending;
}

}  // namespace sinkforge::server
