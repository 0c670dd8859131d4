// Checked by OpenSSL once, so that an error names the file; then read and watched by gRPC.
#include "base/tls.h"

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sinkforge::base {
namespace {

constexpr unsigned kRefreshSeconds = 1;

constexpr char kCertificate[] = "--tls-cert";
constexpr char kKey[] = "--tls-key";
constexpr char kAuthority[] = "--tls-ca";

template <typename Object, void (*kFree)(Object*)>
struct Freer {
  void operator()(Object* object) const { kFree(object); }
};
using Context = std::unique_ptr<SSL_CTX, Freer<SSL_CTX, SSL_CTX_free>>;
using Verification = std::unique_ptr<X509_STORE_CTX, Freer<X509_STORE_CTX, X509_STORE_CTX_free>>;

// OpenSSL's first reason; the rest of its queue is dropped.
std::string LastReason() {
  const unsigned long code = ERR_get_error();  // NOLINT(google-runtime-int): OpenSSL's type
  ERR_clear_error();
  if (code == 0) return "unknown reason";
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(ERR_GET_REASON(code));
  const char* reason = ERR_reason_error_string(code);
  return reason == nullptr ? "unknown reason" : reason;
}

absl::Status Wrong(const char* option, const std::string& file, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(option, " ", file, ": ", why));
}

// That peers who believe the same authority will believe this certificate, today.
absl::Status CheckSignature(SSL_CTX* context, const TlsFiles& files) {
  const Verification verification(X509_STORE_CTX_new());
  STACK_OF(X509)* between = nullptr;
  SSL_CTX_get0_chain_certs(context, &between);
  const bool begun = verification != nullptr &&
                     X509_STORE_CTX_init(verification.get(), SSL_CTX_get_cert_store(context),
                                         SSL_CTX_get0_certificate(context), between) == 1;
  if (!begun) return Wrong(kCertificate, files.certificate, LastReason());
  if (X509_verify_cert(verification.get()) == 1) return absl::OkStatus();
  const int error = X509_STORE_CTX_get_error(verification.get());
  ERR_clear_error();
  return Wrong(kCertificate, files.certificate,
               absl::StrCat(X509_verify_cert_error_string(error), ", says ", kAuthority, " ",
                            files.authority));
}

absl::Status Check(const TlsFiles& files) {
  for (const auto& [option, file] :
       {std::pair(kCertificate, files.certificate), std::pair(kKey, files.key),
        std::pair(kAuthority, files.authority)}) {
    if (!file.empty()) continue;
    return absl::InvalidArgumentError(absl::StrCat(option, ": is missing; encryption takes ",
                                                   kCertificate, ", ", kKey, " and ", kAuthority));
  }
  ERR_clear_error();
  const Context context(SSL_CTX_new(TLS_method()));
  if (context == nullptr) return absl::InternalError("TLS: " + LastReason());
  // Nobody is there to type a passphrase.
  SSL_CTX_set_default_passwd_cb(context.get(), [](char*, int, int, void*) { return 0; });
  if (SSL_CTX_use_certificate_chain_file(context.get(), files.certificate.c_str()) != 1) {
    return Wrong(kCertificate, files.certificate, LastReason());
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return Wrong(kKey, files.key, LastReason());
  }
  if (SSL_CTX_load_verify_file(context.get(), files.authority.c_str()) != 1) {
    return Wrong(kAuthority, files.authority, LastReason());
  }
  return CheckSignature(context.get(), files);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tls>> Tls::Load(const TlsFiles& files) {
  if (files.empty()) return std::shared_ptr<const Tls>();
  const absl::Status checked = Check(files);
  if (!checked.ok()) return checked;
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
