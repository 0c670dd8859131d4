// WorkerService: the streams of worker daemons. The contract is in worker_service.proto.
#pragma once

#include <atomic>
#include <memory>

#include "server/rpc/context.h"
#include "sinkforge/v1/worker_service.grpc.pb.h"

namespace sinkforge::server {

class WorkerServiceImpl final : public v1::WorkerService::CallbackService {
 public:
  explicit WorkerServiceImpl(const RpcContext* rpc) : rpc_(rpc) {}

  grpc::ServerBidiReactor<v1::WorkerSnapshot, v1::DesiredState>* Synchronize(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context,
                                        const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override;
  grpc::ServerUnaryReactor* DrainWorker(grpc::CallbackServerContext* context,
                                        const v1::DrainWorkerRequest* request,
                                        v1::Worker* response) override;
  grpc::ServerUnaryReactor* UndrainWorker(grpc::CallbackServerContext* context,
                                          const v1::UndrainWorkerRequest* request,
                                          v1::Worker* response) override;
  grpc::ServerUnaryReactor* ForgetWorker(grpc::CallbackServerContext* context,
                                         const v1::ForgetWorkerRequest* request,
                                         v1::ForgetWorkerResponse* response) override;

 private:
  const RpcContext* const rpc_;
  // Shared with the streams, which may end after the service.
  const std::shared_ptr<std::atomic<int>> stream_count_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace sinkforge::server
