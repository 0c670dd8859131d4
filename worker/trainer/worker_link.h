// WorkerLink: the trainer's side of TrainerService, the gRPC service of its own worker daemon.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "sinkforge/v1/trainer_service.grpc.pb.h"
#include "worker/trainer/background_writer.h"
#include "worker/trainer/outcome.h"
#include "worker/trainer/report_queue.h"
#include "worker/trainer/run_host.h"

namespace sinkforge::trainer {

struct LinkOptions {
  std::shared_ptr<grpc::Channel> channel;
  std::string token;
  // Of one call that the worker does not answer, and of waiting for one that is away. The trainer
  // dies with its worker, so that these end only what hangs. A worker that answers that it cannot
  // keep a report (its disk is full) is waited for without an end.
  std::chrono::milliseconds call_timeout{10'000};
  std::chrono::milliseconds patience{60'000};
};

// A thread reports at every step and at least every 200 ms; another streams checkpoints. A
// FAILED_PRECONDITION from the worker means that the attempt is over: from then on Poll says
// kAbandon, nothing more is sent, and checkpoints that were taken are dropped.
class WorkerLink final : public RunHost, public RendezvousStore {
 public:
  explicit WorkerLink(LinkOptions options);
  ~WorkerLink() override;

  // The first call; starts the reports. FAILED_PRECONDITION: abandoned before it began.
  // UNAVAILABLE: no worker answers.
  absl::StatusOr<v1::Assignment> Connect();
  // The last report; returns when the worker has it (or the attempt is over), and false where it
  // could not be told.
  bool End(const RunEnd& end);
  bool abandoned() const { return queue_.closed(); }

  kernels::Result<std::optional<StoredCheckpoint>> LoadCheckpoint() override;
  kernels::Status Begin(const RunContext& context, int64_t restored_step) override;
  void Note(const std::string& message) override;
  RendezvousStore* rendezvous() override { return this; }
  int64_t durable_step() const override;
  bool checkpoint_failed() const override { return writer_->last_failed(); }

  void OnStep(const StepReport& report) override;
  HostCommand Poll() override;
  kernels::Status WriteCheckpoint(Snapshot snapshot) override;
  kernels::Status FinishCheckpoints() override;
  void Warn(const std::string& message) override;

  // Thread-safe.
  kernels::Status Put(const std::string& key, const std::string& value) override;
  kernels::Result<std::string> Get(const std::string& key,
                                   std::chrono::milliseconds timeout) override;

 private:
  void ReportUntilClosed();
  void SendReport(const v1::TrainerReport& report);
  kernels::Status UploadWithRetries(const Snapshot& snapshot);
  grpc::Status Upload(const Snapshot& snapshot);
  grpc::Status ReadPart(int32_t rank, StoredCheckpoint* stored);
  // Until a holder has it whole.
  grpc::Status ReadPartWithRetries(int32_t rank, StoredCheckpoint* stored);
  // Waits a little longer at every try; false once patience is over or the attempt is.
  bool WaitToRetry(std::chrono::milliseconds* waited);
  std::unique_ptr<grpc::ClientContext> Context() const;

  const LinkOptions options_;
  const std::unique_ptr<v1::TrainerService::Stub> stub_;
  ReportQueue queue_;
  v1::Assignment assignment_;
  RunContext context_;
  int64_t restored_step_ = 0;
  bool stopping_ = false;             // the phase says so
  std::atomic<int64_t> refusals_{0};  // answers of the worker that it cannot keep a report
  std::atomic<v1::RunRequest> wanted_{v1::RUN_REQUEST_TRAIN};
  std::unique_ptr<BackgroundWriter> writer_;
  std::thread reporter_;
};

// As the wire carries it.
v1::StepRecord ToRecord(const StepReport& report, int64_t attempt);

}  // namespace sinkforge::trainer
