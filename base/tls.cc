// gRPC's credentials of files that OpenSSL has checked; gRPC itself reads and watches them.
#include "base/tls.h"

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <utility>

namespace sinkforge::base {
namespace {

constexpr unsigned kRefreshSeconds = 1;

}  // namespace

absl::StatusOr<std::shared_ptr<const Tls>> Tls::Load(const TlsFiles& files) {
  if (files.empty()) return std::shared_ptr<const Tls>();
  const auto checked = CheckTlsFiles(files);
  if (!checked.ok()) return checked.status();
  return std::shared_ptr<const Tls>(new Tls(files));
}

Tls::Tls(const TlsFiles& files) {
  const auto watched = std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      files.key, files.certificate, files.authority, kRefreshSeconds);
  grpc::experimental::TlsServerCredentialsOptions server(watched);
  server.watch_root_certs();
  server.watch_identity_key_cert_pairs();
  server.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  server_ = grpc::experimental::TlsServerCredentials(server);
  grpc::experimental::TlsChannelCredentialsOptions channel;
  channel.set_certificate_provider(watched);
  channel.watch_root_certs();
  channel.watch_identity_key_cert_pairs();
  channel_ = grpc::experimental::TlsCredentials(channel);
}

}  // namespace sinkforge::base
