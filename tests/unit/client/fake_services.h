// FakeServices: the coordinator's services as far as the client calls them, in this process, with
// answers that a test sets. Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/rpc.h"
#include "sinkforge/v1/checkpoint_service.grpc.pb.h"
#include "sinkforge/v1/job_service.grpc.pb.h"
#include "sinkforge/v1/log_service.grpc.pb.h"
#include "sinkforge/v1/metrics.grpc.pb.h"
#include "sinkforge/v1/worker_service.grpc.pb.h"

namespace sinkforge::client {

class FakeServices final : public v1::JobService::Service {
 public:
  FakeServices();
  ~FakeServices() override;

  // The port stays the same after Stop and Start.
  void Start();
  void Stop();
  std::string address() const;

  // The answers.
  void PutJob(const v1::Job& job) EXCLUDES_LOCK(mutex_);
  // The next submissions fail so, one after the other, before they succeed again.
  void FailSubmissions(std::vector<absl::Status> errors) EXCLUDES_LOCK(mutex_);
  // What WatchJob of this job sends, one list of messages for each time that it is opened; a list
  // that does not end with a final job ends with UNAVAILABLE.
  void SetWatch(const std::string& job_id, std::vector<std::vector<v1::WatchJobResponse>> streams)
      EXCLUDES_LOCK(mutex_);
  void SetLogs(std::vector<std::vector<v1::LogLine>> streams) EXCLUDES_LOCK(mutex_);
  void SetEvents(std::vector<v1::Event> events) EXCLUDES_LOCK(mutex_);
  using AnswerMetrics =
      std::function<absl::StatusOr<v1::QueryMetricsResponse>(const v1::QueryMetricsRequest&)>;
  void SetMetrics(AnswerMetrics answer) EXCLUDES_LOCK(mutex_);
  void SetWorkers(const v1::ListWorkersResponse& workers) EXCLUDES_LOCK(mutex_);
  void SetNamespaces(const v1::ListNamespacesResponse& namespaces) EXCLUDES_LOCK(mutex_);
  // What UpdateNamespace answers from now on.
  void RefuseNamespaces(const absl::Status& error) EXCLUDES_LOCK(mutex_);
  // The stream that ReadCheckpoint sends, by rank.
  void SetPart(int rank, std::vector<v1::CheckpointData> data) EXCLUDES_LOCK(mutex_);
  // What ReadCheckpoint answers from now on.
  void RefuseParts(const absl::Status& error) EXCLUDES_LOCK(mutex_);

  // What was asked.
  std::vector<v1::SubmitJobRequest> submissions() const EXCLUDES_LOCK(mutex_);
  std::vector<std::string> actions() const EXCLUDES_LOCK(mutex_);  // "pause d4-1"
  std::vector<v1::UpdateNamespaceRequest> updates() const EXCLUDES_LOCK(mutex_);
  std::vector<v1::WatchJobRequest> watches() const EXCLUDES_LOCK(mutex_);
  std::vector<v1::ReadLogsRequest> log_reads() const EXCLUDES_LOCK(mutex_);

  grpc::Status SubmitJob(grpc::ServerContext* context, const v1::SubmitJobRequest* request,
                         v1::Job* response) override;
  grpc::Status GetJob(grpc::ServerContext* context, const v1::GetJobRequest* request,
                      v1::Job* response) override;
  grpc::Status ListJobs(grpc::ServerContext* context, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override;
  grpc::Status WatchJob(grpc::ServerContext* context, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::WatchJobResponse>* writer) override;
  grpc::Status CancelJob(grpc::ServerContext* context, const v1::JobActionRequest* request,
                         v1::Job* response) override;
  grpc::Status PauseJob(grpc::ServerContext* context, const v1::JobActionRequest* request,
                        v1::Job* response) override;
  grpc::Status ResumeJob(grpc::ServerContext* context, const v1::JobActionRequest* request,
                         v1::Job* response) override;
  grpc::Status DeleteJob(grpc::ServerContext* context, const v1::JobActionRequest* request,
                         v1::DeleteJobResponse* response) override;
  grpc::Status DeleteCheckpoint(grpc::ServerContext* context,
                                const v1::DeleteCheckpointRequest* request,
                                v1::Job* response) override;
  grpc::Status ListEvents(grpc::ServerContext* context, const v1::ListEventsRequest* request,
                          v1::ListEventsResponse* response) override;
  grpc::Status ListNamespaces(grpc::ServerContext* context,
                              const v1::ListNamespacesRequest* request,
                              v1::ListNamespacesResponse* response) override;
  grpc::Status UpdateNamespace(grpc::ServerContext* context,
                               const v1::UpdateNamespaceRequest* request,
                               v1::Namespace* response) override;

 private:
  class Logs;
  class Metrics;
  class Workers;
  class Checkpoints;
  grpc::Status Act(const char* name, const v1::JobActionRequest& request, v1::Job* response);

  mutable base::Mutex mutex_;
  std::vector<v1::Job> jobs_ GUARDED_BY(mutex_);  // in the order of submission
  std::vector<absl::Status> submission_errors_ GUARDED_BY(mutex_);
  std::map<std::string, std::vector<std::vector<v1::WatchJobResponse>>> watch_streams_
      GUARDED_BY(mutex_);
  std::vector<std::vector<v1::LogLine>> log_streams_ GUARDED_BY(mutex_);
  std::vector<v1::Event> events_ GUARDED_BY(mutex_);
  AnswerMetrics metrics_answer_ GUARDED_BY(mutex_);
  v1::ListWorkersResponse workers_answer_ GUARDED_BY(mutex_);
  v1::ListNamespacesResponse namespaces_answer_ GUARDED_BY(mutex_);
  std::vector<v1::UpdateNamespaceRequest> updates_ GUARDED_BY(mutex_);
  absl::Status namespace_error_ GUARDED_BY(mutex_);
  std::map<int, std::vector<v1::CheckpointData>> parts_ GUARDED_BY(mutex_);
  absl::Status part_error_ GUARDED_BY(mutex_);
  std::vector<v1::SubmitJobRequest> submissions_ GUARDED_BY(mutex_);
  std::vector<std::string> actions_ GUARDED_BY(mutex_);
  std::vector<v1::WatchJobRequest> watches_ GUARDED_BY(mutex_);
  std::vector<v1::ReadLogsRequest> log_reads_ GUARDED_BY(mutex_);

  std::unique_ptr<Logs> logs_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Workers> workers_;
  std::unique_ptr<Checkpoints> checkpoints_;
  base::RunningServer running_;
  int port_ = 0;
};

}  // namespace sinkforge::client
