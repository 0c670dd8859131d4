// LogService: log lines in and out. The contract is in log_service.proto.
#pragma once

#include "server/rpc/context.h"
#include "sinkforge/v1/log_service.grpc.pb.h"

namespace sinkforge::server {

class LogServiceImpl final : public v1::LogService::CallbackService {
 public:
  explicit LogServiceImpl(const RpcContext* rpc) : rpc_(rpc) {}

  grpc::ServerUnaryReactor* AppendLogs(grpc::CallbackServerContext* context,
                                       const v1::AppendLogsRequest* request,
                                       v1::AppendLogsResponse* response) override;
  grpc::ServerWriteReactor<v1::ReadLogsResponse>* ReadLogs(
      grpc::CallbackServerContext* context, const v1::ReadLogsRequest* request) override;

 private:
  const RpcContext* const rpc_;
};

}  // namespace sinkforge::server
