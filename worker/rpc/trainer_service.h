// TrainerService: the daemon's end of the trainers' unix socket. Decodes, calls the agent and the
// stores, encodes.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>

#include "base/clock.h"
#include "sinkforge/v1/rendezvous.grpc.pb.h"
#include "sinkforge/v1/trainer_service.grpc.pb.h"
#include "worker/agent/agent.h"
#include "worker/rpc/part_transfer.h"
#include "worker/store/checkpoint_store.h"
#include "worker/store/step_spool.h"

namespace sinkforge::worker {

// Thread-safe.
class TrainerService final : public v1::TrainerService::Service {
 public:
  // None of these is owned.
  struct Parts {
    Agent* agent = nullptr;
    CheckpointStore* checkpoints = nullptr;
    StepSpool* spool = nullptr;
    const base::Clock* clock = nullptr;
    std::shared_ptr<grpc::Channel> coordinator;  // where the ranks of a gang meet
    const base::Tls* tls = nullptr;              // to other workers; null: plain text
    std::function<void(const v1::StepRecord&)> on_step;
    std::function<void(double seconds)> on_checkpoint_written;
  };
  explicit TrainerService(Parts parts);

  grpc::Status GetAssignment(grpc::ServerContext* context, const v1::GetAssignmentRequest* request,
                             v1::Assignment* response) override;
  grpc::Status Report(grpc::ServerContext* context, const v1::TrainerReport* request,
                      v1::TrainerCommand* response) override;
  grpc::Status WriteCheckpoint(grpc::ServerContext* context,
                               grpc::ServerReader<v1::WriteCheckpointRequest>* reader,
                               v1::WriteCheckpointResponse* response) override;
  grpc::Status ReadCheckpoint(grpc::ServerContext* context,
                              const v1::ReadCheckpointRequest* request,
                              grpc::ServerWriter<v1::CheckpointData>* writer) override;
  // Both are passed on to the coordinator, with the job and the attempt that the token stands for,
  // and give its errors.
  grpc::Status PutRendezvous(grpc::ServerContext* context,
                             const v1::TrainerPutRendezvousRequest* request,
                             v1::PutRendezvousResponse* response) override;
  grpc::Status GetRendezvous(grpc::ServerContext* context,
                             const v1::TrainerGetRendezvousRequest* request,
                             v1::GetRendezvousResponse* response) override;

 private:
  absl::Status TakeReport(const v1::TrainerReport& report, v1::TrainerCommand* command);
  absl::StatusOr<v1::CheckpointPart> TakePart(
      grpc::ServerReader<v1::WriteCheckpointRequest>* reader);
  absl::StatusOr<v1::CheckpointPart> StorePart(
      const v1::WriteCheckpointHeader& header,
      grpc::ServerReader<v1::WriteCheckpointRequest>* reader);
  // From the first holder that has it.
  absl::Status SendRemotePart(const v1::DesiredRank& rank, const v1::ReadCheckpointRequest& request,
                              const PartVisitor& visit);
  absl::Status SendPart(const v1::ReadCheckpointRequest& request, grpc::ServerContext* context,
                        grpc::ServerWriter<v1::CheckpointData>* writer);

  const Parts parts_;
  const std::unique_ptr<v1::RendezvousService::Stub> rendezvous_;
};

}  // namespace sinkforge::worker
