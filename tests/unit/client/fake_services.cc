// FakeServices; see fake_services.h.
#include "tests/unit/client/fake_services.h"

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "client/exit_code.h"

namespace sinkforge::client {
namespace {

grpc::Status NoSuchJob(const std::string& id) {
  return base::ToGrpc(base::WithReason(
      absl::NotFoundError(absl::StrCat("job ", id, ": no such job here; `sinkforge list`")),
      "JOB_NOT_FOUND"));
}

// The first list that is left; the last one stays for all further calls.
template <typename T>
std::vector<T> Next(std::vector<std::vector<T>>* streams) {
  if (streams->empty()) return {};
  std::vector<T> first = streams->front();
  if (streams->size() > 1) streams->erase(streams->begin());
  return first;
}

}  // namespace

class FakeServices::Logs final : public v1::LogService::Service {
 public:
  explicit Logs(FakeServices* fake) : fake_(fake) {}
  grpc::Status ReadLogs(grpc::ServerContext*, const v1::ReadLogsRequest* request,
                        grpc::ServerWriter<v1::ReadLogsResponse>* writer) override {
    base::MutexLock lock(&fake_->mutex_);
    fake_->log_reads_.push_back(*request);
    const bool breaks = fake_->log_streams_.size() > 1;
    v1::ReadLogsResponse response;
    for (const v1::LogLine& line : Next(&fake_->log_streams_)) *response.add_lines() = line;
    writer->Write(response);
    return breaks ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone") : grpc::Status::OK;
  }

 private:
  FakeServices* fake_;
};

class FakeServices::Metrics final : public v1::MetricsService::Service {
 public:
  explicit Metrics(FakeServices* fake) : fake_(fake) {}
  grpc::Status QueryMetrics(grpc::ServerContext*, const v1::QueryMetricsRequest* request,
                            v1::QueryMetricsResponse* response) override {
    base::MutexLock lock(&fake_->mutex_);
    if (!fake_->metrics_answer_) return grpc::Status::OK;
    auto answer = fake_->metrics_answer_(*request);
    if (!answer.ok()) {
      return grpc::Status(static_cast<grpc::StatusCode>(answer.status().code()),
                          std::string(answer.status().message()));
    }
    *response = *std::move(answer);
    return grpc::Status::OK;
  }

 private:
  FakeServices* fake_;
};

class FakeServices::Workers final : public v1::WorkerService::Service {
 public:
  explicit Workers(FakeServices* fake) : fake_(fake) {}
  grpc::Status ListWorkers(grpc::ServerContext*, const v1::ListWorkersRequest*,
                           v1::ListWorkersResponse* response) override {
    base::MutexLock lock(&fake_->mutex_);
    *response = fake_->workers_answer_;
    return grpc::Status::OK;
  }
  grpc::Status DrainWorker(grpc::ServerContext*, const v1::DrainWorkerRequest* request,
                           v1::Worker* response) override {
    return Act("drain " + request->worker() + " " + request->note(), v1::WORKER_STATE_DRAINING,
               request->worker(), response);
  }
  grpc::Status UndrainWorker(grpc::ServerContext*, const v1::UndrainWorkerRequest* request,
                             v1::Worker* response) override {
    return Act("undrain " + request->worker(), v1::WORKER_STATE_LIVE, request->worker(), response);
  }
  grpc::Status ForgetWorker(grpc::ServerContext*, const v1::ForgetWorkerRequest* request,
                            v1::ForgetWorkerResponse* response) override {
    if (request->worker() == "alive") {
      return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "worker alive: it is there");
    }
    base::MutexLock lock(&fake_->mutex_);
    fake_->actions_.push_back("forget " + request->worker());
    response->set_checkpoints_lost(2);
    return grpc::Status::OK;
  }

 private:
  grpc::Status Act(const std::string& action, v1::WorkerState state, const std::string& name,
                   v1::Worker* response) {
    base::MutexLock lock(&fake_->mutex_);
    fake_->actions_.push_back(action);
    response->set_worker(name);
    response->set_state(state);
    return grpc::Status::OK;
  }

  FakeServices* fake_;
};

class FakeServices::Checkpoints final : public v1::CheckpointService::Service {
 public:
  explicit Checkpoints(FakeServices* fake) : fake_(fake) {}
  grpc::Status ReadCheckpoint(grpc::ServerContext*, const v1::ReadCheckpointRequest* request,
                              grpc::ServerWriter<v1::CheckpointData>* writer) override {
    std::vector<v1::CheckpointData> data;
    {
      base::MutexLock lock(&fake_->mutex_);
      fake_->actions_.push_back("read rank " + std::to_string(request->rank()));
      if (!fake_->part_error_.ok()) return base::ToGrpc(fake_->part_error_);
      data = fake_->parts_[request->rank()];
    }
    for (const v1::CheckpointData& message : data) {
      if (!writer->Write(message)) break;
    }
    return grpc::Status::OK;
  }

 private:
  FakeServices* fake_;
};

FakeServices::FakeServices()
    : logs_(std::make_unique<Logs>(this)),
      metrics_(std::make_unique<Metrics>(this)),
      workers_(std::make_unique<Workers>(this)),
      checkpoints_(std::make_unique<Checkpoints>(this)) {
  Start();
}

FakeServices::~FakeServices() { Stop(); }

void FakeServices::Start() {
  auto running = base::StartServer(
      {.address = address(),
       .services = {this, logs_.get(), metrics_.get(), workers_.get(), checkpoints_.get()}});
  SINKFORGE_REQUIRE(running.ok());
  running_ = *std::move(running);
  port_ = running_.port;
}

void FakeServices::Stop() {
  if (running_.server == nullptr) return;
  running_.server->Shutdown(std::chrono::system_clock::now());
  running_.server->Wait();
  running_.server.reset();
}

std::string FakeServices::address() const { return absl::StrCat("127.0.0.1:", port_); }

void FakeServices::PutJob(const v1::Job& job) {
  base::MutexLock lock(&mutex_);
  for (v1::Job& known : jobs_) {
    if (known.job_id() != job.job_id()) continue;
    known = job;
    return;
  }
  jobs_.push_back(job);
}

void FakeServices::FailSubmissions(std::vector<absl::Status> errors) {
  base::MutexLock lock(&mutex_);
  submission_errors_ = std::move(errors);
}

void FakeServices::SetWatch(const std::string& job_id,
                            std::vector<std::vector<v1::WatchJobResponse>> streams) {
  base::MutexLock lock(&mutex_);
  watch_streams_[job_id] = std::move(streams);
}

void FakeServices::SetLogs(std::vector<std::vector<v1::LogLine>> streams) {
  base::MutexLock lock(&mutex_);
  log_streams_ = std::move(streams);
}

void FakeServices::SetEvents(std::vector<v1::Event> events) {
  base::MutexLock lock(&mutex_);
  events_ = std::move(events);
}

void FakeServices::SetMetrics(AnswerMetrics answer) {
  base::MutexLock lock(&mutex_);
  metrics_answer_ = std::move(answer);
}

void FakeServices::SetNamespaces(const v1::ListNamespacesResponse& namespaces) {
  base::MutexLock lock(&mutex_);
  namespaces_answer_ = namespaces;
}

void FakeServices::RefuseNamespaces(const absl::Status& error) {
  base::MutexLock lock(&mutex_);
  namespace_error_ = error;
}

std::vector<v1::UpdateNamespaceRequest> FakeServices::updates() const {
  base::MutexLock lock(&mutex_);
  return updates_;
}

grpc::Status FakeServices::ListNamespaces(grpc::ServerContext*, const v1::ListNamespacesRequest*,
                                          v1::ListNamespacesResponse* response) {
  base::MutexLock lock(&mutex_);
  *response = namespaces_answer_;
  return grpc::Status::OK;
}

grpc::Status FakeServices::UpdateNamespace(grpc::ServerContext*,
                                           const v1::UpdateNamespaceRequest* request,
                                           v1::Namespace* response) {
  base::MutexLock lock(&mutex_);
  if (!namespace_error_.ok()) return base::ToGrpc(namespace_error_);
  updates_.push_back(*request);
  response->set_namespace_(request->namespace_());
  response->set_weight(request->has_weight() ? request->weight() : 1);
  if (request->cpu_slots() >= 0) response->set_cpu_slots(request->cpu_slots());
  return grpc::Status::OK;
}

void FakeServices::SetWorkers(const v1::ListWorkersResponse& workers) {
  base::MutexLock lock(&mutex_);
  workers_answer_ = workers;
}

void FakeServices::SetPart(int rank, std::vector<v1::CheckpointData> data) {
  base::MutexLock lock(&mutex_);
  parts_[rank] = std::move(data);
}

std::vector<v1::SubmitJobRequest> FakeServices::submissions() const {
  base::MutexLock lock(&mutex_);
  return submissions_;
}

void FakeServices::RefuseParts(const absl::Status& error) {
  base::MutexLock lock(&mutex_);
  part_error_ = error;
}

std::vector<std::string> FakeServices::actions() const {
  base::MutexLock lock(&mutex_);
  return actions_;
}

std::vector<v1::WatchJobRequest> FakeServices::watches() const {
  base::MutexLock lock(&mutex_);
  return watches_;
}

std::vector<v1::ReadLogsRequest> FakeServices::log_reads() const {
  base::MutexLock lock(&mutex_);
  return log_reads_;
}

grpc::Status FakeServices::SubmitJob(grpc::ServerContext*, const v1::SubmitJobRequest* request,
                                     v1::Job* response) {
  base::MutexLock lock(&mutex_);
  submissions_.push_back(*request);
  if (!submission_errors_.empty()) {
    const absl::Status error = submission_errors_.front();
    submission_errors_.erase(submission_errors_.begin());
    return base::ToGrpc(error);
  }
  v1::Job job;
  job.set_job_id(absl::StrCat(request->spec().name(), "-", jobs_.size() + 1));
  *job.mutable_spec() = request->spec();
  job.set_state(v1::JOB_STATE_QUEUED);
  job.set_sweep(request->sweep());
  job.set_request_id(request->request_id());
  jobs_.push_back(job);
  *response = job;
  return grpc::Status::OK;
}

grpc::Status FakeServices::GetJob(grpc::ServerContext*, const v1::GetJobRequest* request,
                                  v1::Job* response) {
  base::MutexLock lock(&mutex_);
  for (const v1::Job& job : jobs_) {
    if (job.job_id() != request->job_id()) continue;
    *response = job;
    return grpc::Status::OK;
  }
  return NoSuchJob(request->job_id());
}

grpc::Status FakeServices::ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                                    v1::ListJobsResponse* response) {
  base::MutexLock lock(&mutex_);
  // Two to a page, whatever is asked for, so that every caller has to follow the tokens.
  const size_t skip = request->page_token().empty() ? 0 : std::stoul(request->page_token());
  size_t matching = 0;
  for (auto job = jobs_.rbegin(); job != jobs_.rend(); ++job) {
    if (!request->sweep().empty() && job->sweep() != request->sweep()) continue;
    if (!request->states().empty() && job->state() != request->states(0)) continue;
    ++matching;
    if (matching <= skip) continue;
    if (response->jobs_size() == 2) {
      response->set_next_page_token(std::to_string(skip + 2));
      break;
    }
    *response->add_jobs() = *job;
  }
  return grpc::Status::OK;
}

grpc::Status FakeServices::WatchJob(grpc::ServerContext*, const v1::WatchJobRequest* request,
                                    grpc::ServerWriter<v1::WatchJobResponse>* writer) {
  std::vector<v1::WatchJobResponse> messages;
  {
    base::MutexLock lock(&mutex_);
    watches_.push_back(*request);
    const auto found = watch_streams_.find(request->job_id());
    if (found == watch_streams_.end()) return NoSuchJob(request->job_id());
    messages = Next(&found->second);
  }
  for (const auto& message : messages) writer->Write(message);
  const bool is_final = !messages.empty() && IsFinal(messages.back().job().state());
  return is_final ? grpc::Status::OK : grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
}

grpc::Status FakeServices::Act(const char* name, const v1::JobActionRequest& request,
                               v1::Job* response) {
  base::MutexLock lock(&mutex_);
  actions_.push_back(absl::StrCat(name, " ", request.job_id()));
  SINKFORGE_REQUIRE(!request.request_id().empty());
  for (const v1::Job& job : jobs_) {
    if (job.job_id() != request.job_id()) continue;
    *response = job;
    return grpc::Status::OK;
  }
  return NoSuchJob(request.job_id());
}

grpc::Status FakeServices::CancelJob(grpc::ServerContext*, const v1::JobActionRequest* request,
                                     v1::Job* response) {
  return Act("cancel", *request, response);
}

grpc::Status FakeServices::PauseJob(grpc::ServerContext*, const v1::JobActionRequest* request,
                                    v1::Job* response) {
  return Act("pause", *request, response);
}

grpc::Status FakeServices::ResumeJob(grpc::ServerContext*, const v1::JobActionRequest* request,
                                     v1::Job* response) {
  return Act("resume", *request, response);
}

grpc::Status FakeServices::DeleteJob(grpc::ServerContext*, const v1::JobActionRequest* request,
                                     v1::DeleteJobResponse*) {
  v1::Job ignored;
  return Act("delete", *request, &ignored);
}

grpc::Status FakeServices::DeleteCheckpoint(grpc::ServerContext*,
                                            const v1::DeleteCheckpointRequest* request,
                                            v1::Job* response) {
  v1::JobActionRequest action;
  action.set_job_id(request->job_id());
  action.set_request_id(request->request_id());
  return Act(absl::StrCat("delete-checkpoint-", request->step()).c_str(), action, response);
}

grpc::Status FakeServices::ListEvents(grpc::ServerContext*, const v1::ListEventsRequest* request,
                                      v1::ListEventsResponse* response) {
  base::MutexLock lock(&mutex_);
  for (const v1::Event& event : events_) {
    if (event.sequence() <= request->after_sequence() || response->events_size() == 2) continue;
    *response->add_events() = event;
  }
  return grpc::Status::OK;
}

}  // namespace sinkforge::client
