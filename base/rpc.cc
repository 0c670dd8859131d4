// Servers, channels and the status mapping; see rpc.h.
#include "base/rpc.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>

#include "absl/strings/cord.h"
#include "absl/synchronization/mutex.h"
#include "base/rpc_log.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sinkforge::base {
namespace {

constexpr char kDomain[] = "sinkforge";
constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kBadRequestUrl[] = "type.googleapis.com/google.rpc.BadRequest";

template <typename Message>
bool ReadPayload(const absl::Status& status, const char* url, Message* message) {
  const auto payload = status.GetPayload(url);
  return payload.has_value() && message->ParseFromString(std::string(*payload));
}

// Debian builds Abseil as for debugging: gRPC's every lock looks for cycles in a graph of all
// locks.
void WithoutLockGraph() { absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore); }

bool IsUnix(const std::string& address) { return address.rfind("unix:", 0) == 0; }

}  // namespace

absl::Status WithReason(absl::Status status, const std::string& reason) {
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain(kDomain);
  status.SetPayload(kErrorInfoUrl, absl::Cord(info.SerializeAsString()));
  return status;
}

absl::Status WithViolations(absl::Status status, const std::vector<FieldViolation>& violations) {
  google::rpc::BadRequest request;
  for (const FieldViolation& violation : violations) {
    auto* added = request.add_field_violations();
    added->set_field(violation.field);
    added->set_description(violation.message);
  }
  status.SetPayload(kBadRequestUrl, absl::Cord(request.SerializeAsString()));
  return status;
}

std::string ReasonOf(const absl::Status& status) {
  google::rpc::ErrorInfo info;
  return ReadPayload(status, kErrorInfoUrl, &info) ? info.reason() : "";
}

std::vector<FieldViolation> ViolationsOf(const absl::Status& status) {
  std::vector<FieldViolation> violations;
  google::rpc::BadRequest request;
  if (!ReadPayload(status, kBadRequestUrl, &request)) return violations;
  for (const auto& violation : request.field_violations()) {
    violations.push_back({violation.field(), violation.description()});
  }
  return violations;
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(std::string(status.message()));
  status.ForEachPayload([&details](absl::string_view url, const absl::Cord& payload) {
    auto* any = details.add_details();
    any->set_type_url(std::string(url));
    any->set_value(std::string(payload));
  });
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      details.details_size() > 0 ? details.SerializeAsString() : "");
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const auto& any : details.details()) {
      result.SetPayload(any.type_url(), absl::Cord(any.value()));
    }
  }
  return result;
}

absl::StatusOr<RunningServer> StartServer(const ServerOptions& options) {
  WithoutLockGraph();
  LogGrpcErrors();
  const Reach reach = options.tls == nullptr ? options.reach : Reach::kAnywhere;
  const absl::Status checked = CheckListenAddress(options.address, "--listen", reach);
  if (!checked.ok()) return checked;
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  // Without this a second server would silently share the port.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.SetMaxReceiveMessageSize(kMessageBytesMax);
  builder.SetMaxSendMessageSize(kMessageBytesMax);
  RunningServer running;
  const bool is_plain = options.tls == nullptr || IsUnix(options.address);
  builder.AddListeningPort(options.address,
                           is_plain ? grpc::InsecureServerCredentials() : options.tls->server(),
                           &running.port);
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  {
    // An address that cannot be bound is told below.
    const QuietGrpc quiet;
    running.server = builder.BuildAndStart();
  }
  if (!running.server || (!IsUnix(options.address) && running.port == 0)) {
    return absl::UnavailableError("address " + options.address +
                                  ": cannot be bound (in use?); choose another with --listen, "
                                  "port 0 picks a free one");
  }
  return running;
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& target, const Tls* tls) {
  WithoutLockGraph();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetMaxSendMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // This is how long one attempt to connect may take, not how long to wait before it: a busy
  // machine needs more than the back-off.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Where gRPC 1.51 moves a call that was just begun to a new connection, it can lose the end of a
  // client's stream, and both sides wait for ever. Our callers try again themselves.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // One connection per channel object: a pooled one would keep a dead peer's back-off.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const bool is_plain = tls == nullptr || IsUnix(target);
  return grpc::CreateCustomChannel(
      target, is_plain ? grpc::InsecureChannelCredentials() : tls->channel(), arguments);
}

}  // namespace sinkforge::base
