// The worker's view of a coordinator; see fake_coordinator.h.
#include "tests/unit/worker/fake_coordinator.h"

#include "base/clock.h"
#include "gtest/gtest.h"

namespace sinkforge::worker {

void FakeCoordinator::Start() {
  base::ServerOptions options;
  options.address = "127.0.0.1:" + std::to_string(port_);
  options.services = {static_cast<v1::WorkerService::Service*>(this),
                      static_cast<v1::MetricsService::Service*>(this),
                      static_cast<v1::LogService::Service*>(this)};
  auto running = base::StartServer(options);
  ASSERT_TRUE(running.ok()) << running.status();
  server_ = std::move(running->server);
  port_ = running->port;
}

void FakeCoordinator::Stop() {
  if (!server_) return;
  server_->Shutdown(base::RealClock().Read().wall);
  server_.reset();
}

void FakeCoordinator::Want(const std::function<void(v1::DesiredState*)>& change) {
  base::MutexLock lock(&mutex_);
  change(&desired_);
  desired_.set_desired_revision(desired_.desired_revision() + 1);
  if (stream_ != nullptr) stream_->Write(desired_);
}

v1::DesiredRank FakeCoordinator::Rank(const std::string& job_id, const std::string& behaviour,
                                      int64_t attempt, int32_t slot, int64_t steps) {
  v1::DesiredRank rank;
  rank.set_job_id(job_id);
  rank.set_attempt(attempt);
  rank.set_world_size(1);
  rank.set_slot(slot);
  rank.set_run(v1::RUN_REQUEST_TRAIN);
  rank.mutable_spec()->set_name(behaviour);
  rank.mutable_spec()->set_namespace_("default");
  rank.mutable_spec()->mutable_train()->set_steps(steps);
  return rank;
}

void FakeCoordinator::Refuse(const grpc::Status& status) {
  base::MutexLock lock(&mutex_);
  refusal_ = status;
}

v1::WorkerSnapshot FakeCoordinator::snapshot() const {
  base::MutexLock lock(&mutex_);
  return snapshot_;
}

v1::RankStatus FakeCoordinator::rank(const std::string& job_id, int64_t attempt) const {
  base::MutexLock lock(&mutex_);
  for (const v1::RankStatus& rank : snapshot_.ranks()) {
    if (rank.job_id() == job_id && rank.attempt() == attempt) return rank;
  }
  for (const v1::RankStatus& rank : ended_) {
    if (rank.job_id() == job_id && rank.attempt() == attempt) return rank;
  }
  return {};
}

std::set<std::string> FakeCoordinator::incarnations() const {
  base::MutexLock lock(&mutex_);
  return incarnations_;
}

std::vector<std::pair<int64_t, int64_t>> FakeCoordinator::steps(const std::string& job_id) const {
  base::MutexLock lock(&mutex_);
  const auto found = steps_.find(job_id);
  return found == steps_.end() ? std::vector<std::pair<int64_t, int64_t>>() : found->second;
}

std::vector<std::string> FakeCoordinator::logs(const std::string& job_id) const {
  base::MutexLock lock(&mutex_);
  const auto found = logs_.find(job_id);
  return found == logs_.end() ? std::vector<std::string>() : found->second;
}

int64_t FakeCoordinator::starts(const std::string& job_id) const {
  base::MutexLock lock(&mutex_);
  const auto found = starts_.find(job_id);
  return found == starts_.end() ? 0 : found->second;
}

void FakeCoordinator::AnswerDrainLocked() {
  bool changed = desired_.leave() == v1::LEAVE_UNSPECIFIED;
  if (changed) desired_.set_leave(v1::LEAVE_NOW);
  for (const v1::RankStatus& rank : snapshot_.ranks()) {
    if (rank.phase() != v1::RANK_PHASE_ENDED) continue;
    desired_.clear_ranks();
    desired_.add_acknowledged_ends(rank.job_id() + "/" + std::to_string(rank.attempt()) + "/" +
                                   std::to_string(rank.rank()));
    ended_.push_back(rank);
    changed = true;
  }
  if (!changed) return;
  desired_.set_desired_revision(desired_.desired_revision() + 1);
  if (stream_ != nullptr) stream_->Write(desired_);
}

grpc::Status FakeCoordinator::Synchronize(grpc::ServerContext*, Stream* stream) {
  v1::WorkerSnapshot snapshot;
  bool first = true;
  while (stream->Read(&snapshot)) {
    base::MutexLock lock(&mutex_);
    if (!refusal_.ok()) return refusal_;
    snapshot_ = snapshot;
    incarnations_.insert(snapshot.incarnation());
    if (first) {
      stream_ = stream;
      // A coordinator that came back goes on counting from what the worker has applied.
      if (desired_.desired_revision() <= snapshot.applied_desired_revision()) {
        desired_.set_desired_revision(snapshot.applied_desired_revision() + 1);
      }
      stream->Write(desired_);
      first = false;
    }
    if (snapshot.draining()) AnswerDrainLocked();
  }
  base::MutexLock lock(&mutex_);
  if (stream_ == stream) stream_ = nullptr;
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::ReportSteps(grpc::ServerContext*,
                                          const v1::ReportStepsRequest* request,
                                          v1::ReportStepsResponse*) {
  base::MutexLock lock(&mutex_);
  for (const v1::StepRecord& step : request->steps()) {
    steps_[request->job_id()].emplace_back(step.attempt(), step.step());
  }
  starts_[request->job_id()] += request->starts_size();
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::AppendLogs(grpc::ServerContext*, const v1::AppendLogsRequest* request,
                                         v1::AppendLogsResponse*) {
  base::MutexLock lock(&mutex_);
  for (const v1::LogLine& line : request->lines()) logs_[request->job_id()].push_back(line.text());
  return grpc::Status::OK;
}

}  // namespace sinkforge::worker
