// Parts for others; see checkpoint_service.h.
#include "worker/rpc/checkpoint_service.h"

#include "base/rpc.h"
#include "worker/rpc/part_transfer.h"

namespace sinkforge::worker {

grpc::Status CheckpointService::ReadCheckpoint(grpc::ServerContext* context,
                                               const v1::ReadCheckpointRequest* request,
                                               grpc::ServerWriter<v1::CheckpointData>* writer) {
  return base::ToGrpc(ReadLocalPart(store_, *request, [&](const v1::CheckpointData& data) {
    return !context->IsCancelled() && writer->Write(data);
  }));
}

}  // namespace sinkforge::worker
