// Reading a checkpoint part for whoever asked over the network: from this worker's store, or from
// the worker that holds it. Every byte is verified on the way.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "sinkforge/v1/checkpoint_service.pb.h"
#include "worker/store/checkpoint_store.h"

namespace sinkforge::worker {

// Called for each message; false ends the reading (the reader is gone), which is then OK.
using PartVisitor = std::function<bool(const v1::CheckpointData&)>;

// INVALID_ARGUMENT: impossible names or numbers; NOT_FOUND; DATA_LOSS.
absl::Status ReadLocalPart(const CheckpointStore& store, const v1::ReadCheckpointRequest& request,
                           const PartVisitor& visit);

// UNAVAILABLE: the holder cannot be reached; NOT_FOUND; DATA_LOSS. Each names the holder.
absl::Status FetchPart(const std::string& holder, const std::string& address,
                       const v1::ReadCheckpointRequest& request, const PartVisitor& visit);

}  // namespace sinkforge::worker
