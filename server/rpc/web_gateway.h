// WebGateway: the coordinator's page, and the read-only JSON that it asks for. Each path is one
// call of the coordinator's own services, over a channel inside the process, so that limits, checks
// and error texts are the services' own.
//
//   /, /app.js, /plots.js, /chart.js, /style.css
//   /api/jobs?page_size=&page_token=&namespace=&sweep=   ListJobs
//   /api/jobs/ID                                         GetJob
//   /api/jobs/ID/events?after_sequence=&page_size=       ListEvents
//   /api/jobs/ID/metrics?series=a,b&first_step=&last_step=&max_points=   QueryMetrics
//   /api/workers                                         ListWorkers
//
// JSON names fields as the .proto files do. An error is {"code", "message"} with the HTTP status
// that corresponds to its code.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/http.h"
#include "sinkforge/v1/job_service.grpc.pb.h"
#include "sinkforge/v1/metrics.grpc.pb.h"
#include "sinkforge/v1/worker_service.grpc.pb.h"

namespace sinkforge::server {

// Thread-safe. The clock outlives it.
class WebGateway {
 public:
  WebGateway(const std::shared_ptr<grpc::Channel>& channel, const base::Clock* clock);

  base::HttpResponse Answer(const base::HttpRequest& request) const;

 private:
  absl::StatusOr<std::string> Call(const base::HttpRequest& request) const;
  absl::StatusOr<std::string> CallOfJob(const std::string& job_id, const std::string& what,
                                        const base::HttpRequest& request) const;

  const base::Clock* const clock_;
  const std::unique_ptr<v1::JobService::Stub> jobs_;
  const std::unique_ptr<v1::MetricsService::Stub> metrics_;
  const std::unique_ptr<v1::WorkerService::Stub> workers_;
};

}  // namespace sinkforge::server
