// Coordinator: the client's view of the services, as plain calls. The only file of the client that
// talks gRPC is coordinator.cc.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/tls.h"
#include "client/stop_signal.h"
#include "sinkforge/v1/checkpoint_service.pb.h"
#include "sinkforge/v1/job_service.pb.h"
#include "sinkforge/v1/log_service.pb.h"
#include "sinkforge/v1/metrics.pb.h"
#include "sinkforge/v1/worker_service.pb.h"

namespace sinkforge::client {

struct CoordinatorOptions {
  std::string address;
  std::string address_source;  // "--coordinator": for the message when nobody answers
  // Null: plain text. An error is what every call gives.
  absl::StatusOr<std::shared_ptr<const base::Tls>> tls = nullptr;
  // How long calls are tried again while nobody answers. Absent: 1.5 s where nothing ever answered
  // (there is no coordinator), else 15 s for calls and 60 s for streams (it restarts).
  std::optional<std::chrono::nanoseconds> retry_for;
};

// Errors of every call: those that the .proto files list, and UNAVAILABLE marked as unreachable
// (exit_code.h). A call that is tried again keeps its request, so that a mutation with a request_id
// happens once.
class Coordinator {
 public:
  explicit Coordinator(CoordinatorOptions options);
  ~Coordinator();

  const std::string& address() const { return options_.address; }
  const CoordinatorOptions& options() const { return options_; }
  // For the workers too, once a call has been answered; null for plain text.
  const base::Tls* tls() const;
  // Told once whenever calls begin to wait for the coordinator to come back.
  void OnWait(std::function<void(const std::string& message)> tell) { tell_ = std::move(tell); }

  // Why the coordinator's store cannot be written, if the last answer said so: what it showed is
  // what was stored last. Else empty.
  const std::string& store_failure() const { return store_failure_; }

  absl::StatusOr<v1::Job> SubmitJob(const v1::SubmitJobRequest& request);
  absl::StatusOr<v1::Job> GetJob(const std::string& job_id);
  // All pages of it, at most `count_max` jobs.
  absl::StatusOr<v1::ListJobsResponse> ListJobs(v1::ListJobsRequest request, int64_t count_max);
  absl::StatusOr<v1::Job> CancelJob(const std::string& job_id);
  absl::StatusOr<v1::Job> PauseJob(const std::string& job_id);
  absl::StatusOr<v1::Job> ResumeJob(const std::string& job_id);
  absl::Status DeleteJob(const std::string& job_id);
  absl::StatusOr<v1::Job> DeleteCheckpoint(const std::string& job_id, int64_t step);
  // All of them.
  absl::StatusOr<v1::ListEventsResponse> ListEvents(const std::string& job_id);
  absl::StatusOr<v1::QueryMetricsResponse> QueryMetrics(const v1::QueryMetricsRequest& request);
  absl::StatusOr<v1::ListWorkersResponse> ListWorkers();
  absl::StatusOr<v1::Worker> DrainWorker(const std::string& worker, const std::string& note);
  absl::StatusOr<v1::Worker> UndrainWorker(const std::string& worker);
  absl::StatusOr<v1::ForgetWorkerResponse> ForgetWorker(const std::string& worker);
  absl::StatusOr<v1::ListNamespacesResponse> ListNamespaces();
  absl::StatusOr<v1::Namespace> UpdateNamespace(const v1::UpdateNamespaceRequest& request);

  // Until the job is final, `on_message` returns false (OK), or `stop` (CANCELLED). Opens the
  // stream again where it breaks, from the last step that was seen on.
  absl::Status WatchJob(v1::WatchJobRequest request, StopSignal* stop,
                        const std::function<bool(const v1::WatchJobResponse&)>& on_message);
  // The same for log lines; after a break no line is repeated.
  absl::Status ReadLogs(const v1::ReadLogsRequest& request, StopSignal* stop,
                        const std::function<void(const v1::LogLine&)>& on_line);

 private:
  class Impl;
  CoordinatorOptions options_;
  std::function<void(const std::string&)> tell_;
  std::string store_failure_;
  std::unique_ptr<Impl> impl_;
};

// One part of a checkpoint from the worker at `address`; ends early (OK) where `on_data` returns an
// error, which is then the result. `tls`: null for plain text; so below.
absl::Status ReadCheckpointPart(
    const std::string& address, const base::Tls* tls, const v1::ReadCheckpointRequest& request,
    StopSignal* stop, const std::function<absl::Status(const v1::CheckpointData&)>& on_data);

// OK where the health service at `address` answers SERVING within `timeout`. UNAVAILABLE: nobody
// answers; that may take a second more, to learn why. FAILED_PRECONDITION: it answers something
// else.
absl::Status CheckHealth(const std::string& address, std::chrono::nanoseconds timeout,
                         const base::Tls* tls = nullptr);

}  // namespace sinkforge::client
