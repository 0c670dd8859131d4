// A coordinator, its clients and a worker for tests; see daemon_bed.h.
#include "tests/unit/server/daemon_bed.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/rpc.h"

namespace sinkforge::server {
namespace {

// Fails the test with the RPC's error rather than going on with an empty answer.
void RequireOk(const grpc::Status& status) {
  EXPECT_TRUE(status.ok()) << status.error_code() << " " << status.error_message();
  SINKFORGE_REQUIRE(status.ok());
}

}  // namespace

DaemonBed::DaemonBed(const DaemonOptions& options) : options_(options) {
  options_.listen = "127.0.0.1:0";
  options_.metrics_listen = "";  // it takes two seconds to stop; process_test.cc has it
  options_.data_dir = folder_.path();
  options_.version = "test";
  Open();
}

void DaemonBed::Open() {
  auto daemon = Daemon::Start(options_, &clock_);
  EXPECT_TRUE(daemon.ok()) << daemon.status();
  SINKFORGE_REQUIRE(daemon.ok());
  daemon_ = *std::move(daemon);
  channel_ = base::MakeChannel(absl::StrCat("127.0.0.1:", daemon_->port()));
  jobs_ = v1::JobService::NewStub(channel_);
  workers_ = v1::WorkerService::NewStub(channel_);
  metrics_ = v1::MetricsService::NewStub(channel_);
  logs_ = v1::LogService::NewStub(channel_);
  rendezvous_ = v1::RendezvousService::NewStub(channel_);
}

void DaemonBed::Restart() {
  options_.listen = absl::StrCat("127.0.0.1:", daemon_->port());
  daemon_.reset();
  Open();
}

std::string DaemonBed::Submit(const std::string& request_id) {
  grpc::ClientContext context;
  v1::Job job;
  RequireOk(jobs_->SubmitJob(&context, MakeSubmission(request_id), &job));
  return job.job_id();
}

v1::Job DaemonBed::Job(const std::string& job_id) {
  grpc::ClientContext context;
  v1::GetJobRequest request;
  request.set_job_id(job_id);
  v1::Job job;
  RequireOk(jobs_->GetJob(&context, request, &job));
  return job;
}

v1::Job DaemonBed::AwaitState(const std::string& job_id, v1::JobState state) {
  v1::Job job = Job(job_id);
  while (job.state() != state) job = Job(job_id);
  return job;
}

void DaemonBed::Report(const v1::ReportStepsRequest& report) {
  grpc::ClientContext context;
  v1::ReportStepsResponse response;
  RequireOk(metrics_->ReportSteps(&context, report, &response));
}

void DaemonBed::Append(const v1::AppendLogsRequest& lines) {
  grpc::ClientContext context;
  v1::AppendLogsResponse response;
  RequireOk(logs_->AppendLogs(&context, lines, &response));
}

v1::JobActionRequest DaemonBed::Action(const std::string& job_id) {
  v1::JobActionRequest request;
  request.set_job_id(job_id);
  request.set_request_id(absl::StrCat("action-", ++actions_));
  return request;
}

StreamWorker::StreamWorker(DaemonBed* bed, const std::string& name, const std::string& incarnation,
                           int slots)
    : bed_(bed) {
  snapshot.set_worker(name);
  snapshot.set_incarnation(incarnation);
  snapshot.set_address("127.0.0.1:1");
  for (int i = 0; i < slots; ++i) {
    v1::Slot* slot = snapshot.add_slots();
    slot->set_index(i);
    slot->set_device(v1::DEVICE_CPU);
  }
  Connect();
}

StreamWorker::~StreamWorker() { Break(); }

void StreamWorker::Break() {
  context_->TryCancel();
  if (reader_.joinable()) reader_.join();
}

void StreamWorker::Connect() {
  if (reader_.joinable()) Break();
  {
    base::MutexLock lock(&mutex_);
    desired_.reset();
    end_.reset();
  }
  context_ = std::make_unique<grpc::ClientContext>();
  context_->set_wait_for_ready(true);
  stream_ = bed_->workers().Synchronize(context_.get());
  reader_ = std::thread([this, stream = stream_.get()] { Read(stream); });
}

void StreamWorker::Read(grpc::ClientReaderWriter<v1::WorkerSnapshot, v1::DesiredState>* stream) {
  v1::DesiredState state;
  while (stream->Read(&state)) {
    base::MutexLock lock(&mutex_);
    desired_ = state;
    changed_.NotifyAll();
  }
  const grpc::Status status = stream->Finish();
  base::MutexLock lock(&mutex_);
  end_ = status;
  changed_.NotifyAll();
}

void StreamWorker::Sync() {
  Obey();
  snapshot.set_report_sequence(snapshot.report_sequence() + 1);
  stream_->Write(snapshot);  // where the stream is over, AwaitEnd tells
}

v1::DesiredState StreamWorker::Await(const std::function<bool(const v1::DesiredState&)>& fits) {
  base::MutexLock lock(&mutex_);
  while (!end_.has_value() && !(desired_.has_value() && fits(*desired_))) changed_.Wait(&lock);
  EXPECT_FALSE(end_.has_value()) << end_->error_message();
  return desired_.value_or(v1::DesiredState());
}

v1::DesiredState StreamWorker::AwaitRanks(int count) {
  return Await([count](const v1::DesiredState& state) { return state.ranks_size() == count; });
}

grpc::Status StreamWorker::AwaitEnd() {
  base::MutexLock lock(&mutex_);
  while (!end_.has_value()) changed_.Wait(&lock);
  return *end_;
}

void StreamWorker::Obey() {
  v1::DesiredState desired;
  {
    base::MutexLock lock(&mutex_);
    if (!desired_.has_value()) return;
    desired = *desired_;
  }
  const auto name_of = [](const auto& rank) {
    return absl::StrCat(rank.job_id(), "/", rank.attempt(), "/", rank.rank());
  };
  for (const v1::DesiredRank& wanted : desired.ranks()) {
    const bool is_here =
        std::any_of(snapshot.ranks().begin(), snapshot.ranks().end(),
                    [&](const v1::RankStatus& rank) { return name_of(rank) == name_of(wanted); });
    if (is_here) continue;
    v1::RankStatus* rank = snapshot.add_ranks();
    rank->set_job_id(wanted.job_id());
    rank->set_attempt(wanted.attempt());
    rank->set_rank(wanted.rank());
    rank->set_slot(wanted.slot());
    rank->set_phase(v1::RANK_PHASE_SPAWNING);
  }
  const auto& ends = desired.acknowledged_ends();
  auto* ranks = snapshot.mutable_ranks();
  ranks->erase(std::remove_if(ranks->begin(), ranks->end(),
                              [&](const v1::RankStatus& rank) {
                                return std::find(ends.begin(), ends.end(), name_of(rank)) !=
                                       ends.end();
                              }),
               ranks->end());
  snapshot.set_applied_desired_revision(desired.desired_revision());
}

void StreamWorker::Train(const std::string& job_id, int64_t step) {
  for (v1::RankStatus& rank : *snapshot.mutable_ranks()) {
    if (rank.job_id() != job_id || rank.phase() == v1::RANK_PHASE_ENDED) continue;
    rank.set_phase(v1::RANK_PHASE_TRAINING);
    rank.set_step(step);
    rank.mutable_progress()->set_step(step);
    rank.mutable_progress()->set_steps_total(3);
  }
}

void StreamWorker::End(const std::string& job_id, v1::RankOutcome outcome) {
  for (v1::RankStatus& rank : *snapshot.mutable_ranks()) {
    if (rank.job_id() != job_id) continue;
    rank.set_phase(v1::RANK_PHASE_ENDED);
    rank.set_outcome(outcome);
  }
}

void StreamWorker::AddPart(const std::string& job_id, int64_t step) {
  v1::CheckpointPart* part = snapshot.add_checkpoint_parts();
  part->set_job_id(job_id);
  part->set_attempt(1);
  part->set_step(step);
  part->set_world_size(1);
  part->set_bytes(1000);
  part->set_worker(snapshot.worker());
}

}  // namespace sinkforge::server
