// Reading a checkpoint part for whoever asked over the network: from this worker's store, or from
// the worker that holds it. Every byte is verified on the way.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "base/tls.h"
#include "sinkforge/v1/checkpoint_service.pb.h"
#include "worker/store/checkpoint_store.h"

namespace sinkforge::worker {

// Called for each message; false ends the reading (the reader is gone), which is then OK.
using PartVisitor = std::function<bool(const v1::CheckpointData&)>;

// A part that turns out to be corrupt is dropped, so that the coordinator sees it gone and has it
// fetched anew from another holder. INVALID_ARGUMENT: impossible names or numbers; NOT_FOUND;
// DATA_LOSS.
absl::Status ReadLocalPart(CheckpointStore* store, const v1::ReadCheckpointRequest& request,
                           const PartVisitor& visit);

// A worker that has a part.
struct PartHolder {
  std::string worker;
  std::string address;
  const base::Tls* tls = nullptr;  // not owned; null: plain text
};

// `context` is a new one; cancelling it ends the call. UNAVAILABLE: the holder cannot be reached;
// NOT_FOUND; DATA_LOSS; CANCELLED. Each names the holder.
absl::Status FetchPart(const PartHolder& holder, const v1::ReadCheckpointRequest& request,
                       const PartVisitor& visit, grpc::ClientContext* context);

}  // namespace sinkforge::worker
