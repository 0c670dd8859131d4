// MetricsService: step records in, series out. The contract is in metrics.proto.
#pragma once

#include "server/rpc/context.h"
#include "sinkforge/v1/metrics.grpc.pb.h"

namespace sinkforge::server {

class MetricsServiceImpl final : public v1::MetricsService::CallbackService {
 public:
  explicit MetricsServiceImpl(const RpcContext* rpc) : rpc_(rpc) {}

  grpc::ServerUnaryReactor* ReportSteps(grpc::CallbackServerContext* context,
                                        const v1::ReportStepsRequest* request,
                                        v1::ReportStepsResponse* response) override;
  grpc::ServerUnaryReactor* QueryMetrics(grpc::CallbackServerContext* context,
                                         const v1::QueryMetricsRequest* request,
                                         v1::QueryMetricsResponse* response) override;

 private:
  const RpcContext* const rpc_;
};

}  // namespace sinkforge::server
