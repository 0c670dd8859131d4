// FakeCoordinator: a gRPC server that plays the coordinator for a worker: it wants what a test says
// and keeps what the worker tells it. Can be stopped and come back on its port.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/rpc.h"
#include "sinkforge/v1/log_service.grpc.pb.h"
#include "sinkforge/v1/metrics.grpc.pb.h"
#include "sinkforge/v1/worker_service.grpc.pb.h"

namespace sinkforge::worker {

class FakeCoordinator final : public v1::WorkerService::Service,
                              public v1::MetricsService::Service,
                              public v1::LogService::Service {
 public:
  FakeCoordinator() { Start(); }
  ~FakeCoordinator() override { Stop(); }

  void Start();
  // As a crash looks from outside: every stream breaks.
  void Stop();
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Changes what is wanted and sends it to the worker.
  void Want(const std::function<void(v1::DesiredState*)>& change);
  // One rank of a job with this behaviour (fake_trainer.cc), in the slot.
  static v1::DesiredRank Rank(const std::string& job_id, const std::string& behaviour,
                              int64_t attempt, int32_t slot, int64_t steps);
  // Every stream ends with this error from now on; OK: none does.
  void Refuse(const grpc::Status& status);

  v1::WorkerSnapshot snapshot() const;
  // The rank in the last snapshot, or as it ended if that was acknowledged; phase UNSPECIFIED: not
  // there.
  v1::RankStatus rank(const std::string& job_id, int64_t attempt) const;
  std::set<std::string> incarnations() const;
  // (attempt, step) in the order of arrival, the repeated ones too.
  std::vector<std::pair<int64_t, int64_t>> steps(const std::string& job_id) const;
  std::vector<std::string> logs(const std::string& job_id) const;
  int64_t starts(const std::string& job_id) const;

  grpc::Status Synchronize(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::DesiredState, v1::WorkerSnapshot>* stream) override;
  grpc::Status ReportSteps(grpc::ServerContext* context, const v1::ReportStepsRequest* request,
                           v1::ReportStepsResponse* response) override;
  grpc::Status AppendLogs(grpc::ServerContext* context, const v1::AppendLogsRequest* request,
                          v1::AppendLogsResponse* response) override;

 private:
  using Stream = grpc::ServerReaderWriter<v1::DesiredState, v1::WorkerSnapshot>;
  // While the worker drains, as the coordinator does it once an attempt has ended. The worker may
  // leave, if the test does not want something else.
  void AnswerDrainLocked() REQUIRES_LOCK(mutex_);

  mutable base::Mutex mutex_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  Stream* stream_ GUARDED_BY(mutex_) = nullptr;
  grpc::Status refusal_ GUARDED_BY(mutex_);
  v1::DesiredState desired_ GUARDED_BY(mutex_);
  v1::WorkerSnapshot snapshot_ GUARDED_BY(mutex_);
  std::vector<v1::RankStatus> ended_ GUARDED_BY(mutex_);  // acknowledged
  std::set<std::string> incarnations_ GUARDED_BY(mutex_);
  std::map<std::string, std::vector<std::pair<int64_t, int64_t>>> steps_ GUARDED_BY(mutex_);
  std::map<std::string, std::vector<std::string>> logs_ GUARDED_BY(mutex_);
  std::map<std::string, int64_t> starts_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::worker
