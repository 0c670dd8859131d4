// RendezvousService: how the ranks of an attempt find one another. The contract is in
// rendezvous.proto.
#pragma once

#include "server/rpc/context.h"
#include "sinkforge/v1/rendezvous.grpc.pb.h"

namespace sinkforge::server {

class RendezvousServiceImpl final : public v1::RendezvousService::CallbackService {
 public:
  explicit RendezvousServiceImpl(const RpcContext* rpc) : rpc_(rpc) {}

  grpc::ServerUnaryReactor* PutRendezvous(grpc::CallbackServerContext* context,
                                          const v1::PutRendezvousRequest* request,
                                          v1::PutRendezvousResponse* response) override;
  grpc::ServerUnaryReactor* GetRendezvous(grpc::CallbackServerContext* context,
                                          const v1::GetRendezvousRequest* request,
                                          v1::GetRendezvousResponse* response) override;

 private:
  const RpcContext* const rpc_;
};

}  // namespace sinkforge::server
