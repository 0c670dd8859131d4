// Asks gRPC why, and reads its words; see rpc_connection.h.
#include "base/rpc_connection.h"

#include <grpcpp/generic/generic_stub.h>

#include <future>
#include <utility>

#include "absl/strings/match.h"
#include "base/rpc.h"

namespace sinkforge::base {
namespace {

struct Meaning {
  const char* words;
  const char* meaning;
};

constexpr Meaning kOurFindings[] = {
    {"certificate verify failed", "its certificate has expired, or --tls-ca has not signed it"},
    {"Hostname Verification Check failed", "its certificate does not name this host"},
    {"wrong version number", "it does not encrypt"},
};

// What this side sees where the other one ends the handshake.
constexpr const char* kHungUp[] = {"Socket closed", "Connection reset by peer", " alert "};

}  // namespace

absl::Status AskHealth(const std::shared_ptr<grpc::Channel>& channel,
                       std::chrono::nanoseconds patience) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::microseconds>(patience));
  // An empty HealthCheckRequest: the server as a whole.
  const grpc::Slice nothing;
  grpc::ByteBuffer request(&nothing, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", grpc::StubOptions(), &request, &response,
                 [&done](grpc::Status status) { done.set_value(std::move(status)); });
  const grpc::Status status = done.get_future().get();
  if (!status.ok()) return FromGrpc(status);
  grpc::Slice slice;
  if (!response.DumpToSingleSlice(&slice).ok()) return absl::InternalError("health: no answer");
  // HealthCheckResponse{status: SERVING} is field 1 (varint) with the value 1.
  const std::string body(reinterpret_cast<const char*>(slice.begin()), slice.size());
  if (body == std::string("\x08\x01", 2)) return absl::OkStatus();
  return absl::FailedPreconditionError("it is not serving");
}

std::string EncryptionHint(const std::string& error, bool is_encrypted) {
  for (const Meaning& finding : kOurFindings) {
    if (is_encrypted && absl::StrContains(error, finding.words)) return finding.meaning;
  }
  for (const char* words : kHungUp) {
    if (!absl::StrContains(error, words)) continue;
    return is_encrypted ? "it may not believe --tls-cert: its log says why"
                        : "it may ask for certificates: --tls-cert, --tls-key and --tls-ca";
  }
  return "";
}

}  // namespace sinkforge::base
