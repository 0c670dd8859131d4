// What every gRPC server and client of SinkForge shares: listening, health, reflection, channels,
// and the one mapping between absl::Status and grpc::Status.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/address.h"
#include "base/tls.h"

namespace sinkforge::base {

constexpr int kMessageBytesMax = 8 << 20;

// Details of an error: ErrorInfo.reason, UPPER_SNAKE_CASE, and field violations where a request's
// fields were wrong.
struct FieldViolation {
  std::string field;
  std::string message;
};
absl::Status WithReason(absl::Status status, const std::string& reason);
absl::Status WithViolations(absl::Status status, const std::vector<FieldViolation>& violations);
std::string ReasonOf(const absl::Status& status);
std::vector<FieldViolation> ViolationsOf(const absl::Status& status);

// Both keep reason and violations (google.rpc.Status in the trailing metadata).
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

struct ServerOptions {
  std::string address;  // "host:port" or "unix:/path"; port 0 picks one
  Reach reach = Reach::kLoopback;
  const Tls* tls = nullptr;  // null: plain text; not for "unix:". Not needed after the start
  std::vector<grpc::Service*> services;  // not owned
};

struct RunningServer {
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

// With the health service (SERVING), reflection, no shared port. With `tls` any address may be
// listened on, and only callers with a certificate are heard. INVALID_ARGUMENT: see
// CheckListenAddress; UNAVAILABLE: the address is in use (named).
absl::StatusOr<RunningServer> StartServer(const ServerOptions& options);

// Keep-alive and message sizes set; connects lazily, reconnects within a second. `tls`: null for
// plain text, which "unix:" always is; not needed afterwards.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& target, const Tls* tls = nullptr);

}  // namespace sinkforge::base
