// What users decide about namespaces and workers.
#pragma once

#include "absl/status/statusor.h"
#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

// See Coordinator::UpdateNamespace, DrainWorker, UndrainWorker and ForgetWorker.
absl::StatusOr<v1::Namespace> SetNamespace(Call* call, const v1::UpdateNamespaceRequest& request);
absl::StatusOr<v1::Worker> SetDrain(Call* call, const v1::DrainWorkerRequest& request);
absl::StatusOr<v1::Worker> ClearDrain(Call* call, const std::string& worker);
absl::StatusOr<v1::ForgetWorkerResponse> GiveUpWorker(Call* call,
                                                      const v1::ForgetWorkerRequest& request);

std::vector<v1::Namespace> DescribeNamespaces(const State& state);

}  // namespace sinkforge::server
