// A whole coordinator in the test's process, with its clients, and a worker daemon that a test
// moves by hand, all over real gRPC on ports that the system picks.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "server/daemon.h"
#include "sinkforge/v1/job_service.grpc.pb.h"
#include "sinkforge/v1/log_service.grpc.pb.h"
#include "sinkforge/v1/metrics.grpc.pb.h"
#include "sinkforge/v1/rendezvous.grpc.pb.h"
#include "sinkforge/v1/worker_service.grpc.pb.h"
#include "tests/unit/server/records.h"

namespace sinkforge::server {

class DaemonBed {
 public:
  explicit DaemonBed(const DaemonOptions& options = {});

  // Shuts the coordinator down, and starts another on the same data and the same port.
  void Restart();
  void Stop() { daemon_.reset(); }
  Daemon& daemon() { return *daemon_; }
  const std::string& folder() const { return folder_.path(); }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  v1::JobService::Stub& jobs() { return *jobs_; }
  v1::WorkerService::Stub& workers() { return *workers_; }
  v1::MetricsService::Stub& metrics() { return *metrics_; }
  v1::LogService::Stub& logs() { return *logs_; }
  v1::RendezvousService::Stub& rendezvous() { return *rendezvous_; }

  // The id of a new job of one CPU rank.
  std::string Submit(const std::string& request_id);
  v1::Job Job(const std::string& job_id);
  // Polls until the job is in the state.
  v1::Job AwaitState(const std::string& job_id, v1::JobState state);
  void Report(const v1::ReportStepsRequest& report);
  void Append(const v1::AppendLogsRequest& lines);
  v1::JobActionRequest Action(const std::string& job_id);

 private:
  void Open();

  TempFolder folder_;
  base::RealClock clock_;
  DaemonOptions options_;
  std::unique_ptr<Daemon> daemon_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
  std::unique_ptr<v1::WorkerService::Stub> workers_;
  std::unique_ptr<v1::MetricsService::Stub> metrics_;
  std::unique_ptr<v1::LogService::Stub> logs_;
  std::unique_ptr<v1::RendezvousService::Stub> rendezvous_;
  int actions_ = 0;
};

// One Synchronize stream at a time. Does what the coordinator wants (starts and forgets ranks) when
// it is told to, and says only what the test has put into `snapshot`.
class StreamWorker {
 public:
  StreamWorker(DaemonBed* bed, const std::string& name, const std::string& incarnation, int slots);
  ~StreamWorker();

  // A new stream; an older one is over.
  void Connect();
  // Sends the snapshot, after having taken over the ranks and the drops of the newest state.
  void Sync();
  // Waits for a desired state that fits.
  v1::DesiredState Await(const std::function<bool(const v1::DesiredState&)>& fits);
  v1::DesiredState AwaitRanks(int count);
  // Waits until the coordinator ends the stream.
  grpc::Status AwaitEnd();
  // Cancels the stream.
  void Break();

  // The rank of the job trains and has done `step` steps; Sync sends it.
  void Train(const std::string& job_id, int64_t step);
  void End(const std::string& job_id, v1::RankOutcome outcome);
  void AddPart(const std::string& job_id, int64_t step);

  v1::WorkerSnapshot snapshot;

 private:
  void Obey();
  void Read(grpc::ClientReaderWriter<v1::WorkerSnapshot, v1::DesiredState>* stream);

  DaemonBed* const bed_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerSnapshot, v1::DesiredState>> stream_;
  std::thread reader_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::optional<v1::DesiredState> desired_ GUARDED_BY(mutex_);
  std::optional<grpc::Status> end_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::server
