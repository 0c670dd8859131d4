// CheckpointService: serves the checkpoint parts of this worker to other workers and to clients.
#pragma once

#include <grpcpp/grpcpp.h>

#include "sinkforge/v1/checkpoint_service.grpc.pb.h"
#include "worker/store/checkpoint_store.h"

namespace sinkforge::worker {

// Thread-safe.
class CheckpointService final : public v1::CheckpointService::Service {
 public:
  // Not owned.
  explicit CheckpointService(CheckpointStore* store) : store_(store) {}

  grpc::Status ReadCheckpoint(grpc::ServerContext* context,
                              const v1::ReadCheckpointRequest* request,
                              grpc::ServerWriter<v1::CheckpointData>* writer) override;

 private:
  CheckpointStore* const store_;
};

}  // namespace sinkforge::worker
