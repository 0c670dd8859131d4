// Local and remote parts; see part_transfer.h.
#include "worker/rpc/part_transfer.h"

#include <memory>
#include <vector>

#include "base/log.h"
#include "base/rpc.h"
#include "proto/checkpoint_format/checkpoint_stream.h"
#include "sinkforge/v1/checkpoint_service.grpc.pb.h"

namespace sinkforge::worker {

absl::Status ReadLocalPart(CheckpointStore* store, const v1::ReadCheckpointRequest& request,
                           const PartVisitor& visit) {
  const PartKey key{request.job_id(), request.attempt(), request.step(), request.rank()};
  if (!IsPossible(key)) {
    return absl::InvalidArgumentError("ReadCheckpoint: an impossible job, attempt, step or rank");
  }
  const std::vector<std::string> prefixes(request.name_prefixes().begin(),
                                          request.name_prefixes().end());
  const absl::Status read = store->Read(key, prefixes, visit);
  if (absl::IsDataLoss(read)) {
    base::LogError("a checkpoint part is corrupt and is dropped",
                   {{"part", ToString(key)}, {"error", std::string(read.message())}});
    const absl::Status dropped = store->DropPart(key);
    if (!dropped.ok()) {
      base::LogWarning("a corrupt checkpoint part could not be dropped",
                       {{"part", ToString(key)}, {"error", std::string(dropped.message())}});
    }
  }
  return read;
}

absl::Status FetchPart(const PartHolder& holder, const v1::ReadCheckpointRequest& request,
                       const PartVisitor& visit, grpc::ClientContext* context) {
  const PartKey key{request.job_id(), request.attempt(), request.step(), request.rank()};
  const auto stub = v1::CheckpointService::NewStub(base::MakeChannel(holder.address, holder.tls));
  v1::ReadCheckpointRequest forwarded = request;
  forwarded.clear_token();  // it means nothing elsewhere
  const auto reader = stub->ReadCheckpoint(context, forwarded);
  checkpoint::PartVerifier verifier;
  absl::Status result;
  bool stopped = false;
  v1::CheckpointData data;
  while (result.ok() && !stopped && reader->Read(&data)) {
    result = OfPart(key, verifier.Accept(data));
    if (result.ok()) stopped = !visit(data);
  }
  if (!result.ok() || stopped) context->TryCancel();
  const absl::Status finished = base::FromGrpc(reader->Finish());
  if (stopped) return absl::OkStatus();
  if (result.ok()) result = finished.ok() ? OfPart(key, verifier.Complete()) : finished;
  if (result.ok()) return result;
  return absl::Status(result.code(), "from worker " + holder.worker + " (" + holder.address +
                                         "): " + std::string(result.message()));
}

}  // namespace sinkforge::worker
