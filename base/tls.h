// Mutual TLS: who a process is to others, and whom it believes.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

// Named only, so that not everybody who passes them on compiles gRPC.
namespace grpc {
class ChannelCredentials;
class ServerCredentials;
}  // namespace grpc

namespace sinkforge::base {

// Paths of PEM files. All three, or none for plain text.
struct TlsFiles {
  std::string certificate;  // of this process, and what is between it and the authority
  std::string key;          // of the certificate, without a passphrase
  std::string authority;    // certificates of those who may sign others' (and this one)

  bool empty() const { return certificate.empty() && key.empty() && authority.empty(); }
};

// What servers and channels take. Both ends show a certificate that the other's authority has
// signed; a server's must name the host by which it was called (subjectAltName). Files that change
// count for new connections within two seconds. Immutable, and thread-safe.
class Tls {
 public:
  // Null where no file is given. INVALID_ARGUMENT names the option and the file: one is missing or
  // cannot be read, key and certificate do not belong together, the certificate has expired, or the
  // authority has not signed it.
  static absl::StatusOr<std::shared_ptr<const Tls>> Load(const TlsFiles& files);

  const std::shared_ptr<grpc::ServerCredentials>& server() const { return server_; }
  const std::shared_ptr<grpc::ChannelCredentials>& channel() const { return channel_; }

 private:
  explicit Tls(const TlsFiles& files);

  std::shared_ptr<grpc::ServerCredentials> server_;
  std::shared_ptr<grpc::ChannelCredentials> channel_;
};

}  // namespace sinkforge::base
