// Mutual TLS: who a process is to others, and whom it believes.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "base/tls_files.h"

// Named only, so that not everybody who passes them on compiles gRPC.
namespace grpc {
class ChannelCredentials;
class ServerCredentials;
}  // namespace grpc

namespace sinkforge::base {

// What servers and channels take. Both ends show a certificate that the other's authority has
// signed; a server's must name the host by which it was called (subjectAltName). Files that change
// count for new connections within two seconds. Immutable, and thread-safe.
class Tls {
 public:
  // Null where no file is given. Errors are those of CheckTlsFiles.
  static absl::StatusOr<std::shared_ptr<const Tls>> Load(const TlsFiles& files);

  const std::shared_ptr<grpc::ServerCredentials>& server() const { return server_; }
  const std::shared_ptr<grpc::ChannelCredentials>& channel() const { return channel_; }

 private:
  explicit Tls(const TlsFiles& files);

  std::shared_ptr<grpc::ServerCredentials> server_;
  std::shared_ptr<grpc::ChannelCredentials> channel_;
};

}  // namespace sinkforge::base
