// Checks of certificates by OpenSSL; see tls_files.h.
#include "base/tls_files.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <cstring>
#include <ctime>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sinkforge::base {
namespace {

using std::chrono::system_clock;

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
  // What OpenSSL 3 says of a file in which none of its decoders finds what is wanted.
  if (ERR_GET_REASON(code) == ERR_R_UNSUPPORTED) return "there is no such thing in the file";
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

absl::StatusOr<system_clock::time_point> TimeOf(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InvalidArgumentError(LastReason());
  return system_clock::from_time_t(timegm(&parts));
}

absl::StatusOr<TlsValidity> ValidityOf(SSL_CTX* context, const TlsFiles& files) {
  const X509* certificate = SSL_CTX_get0_certificate(context);
  const auto from = TimeOf(X509_get0_notBefore(certificate));
  const auto until = TimeOf(X509_get0_notAfter(certificate));
  for (const auto* time : {&from, &until}) {
    if (!time->ok()) {
      return Wrong(kCertificate, files.certificate, std::string(time->status().message()));
    }
  }
  return TlsValidity{*from, *until};
}

}  // namespace

absl::StatusOr<TlsValidity> CheckTlsFiles(const TlsFiles& files) {
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
  const absl::Status signed_by = CheckSignature(context.get(), files);
  if (!signed_by.ok()) return signed_by;
  return ValidityOf(context.get(), files);
}

absl::Status CheckTlsHost(const TlsFiles& files, const std::string& host) {
  ERR_clear_error();
  const Context context(SSL_CTX_new(TLS_method()));
  if (context == nullptr ||
      SSL_CTX_use_certificate_chain_file(context.get(), files.certificate.c_str()) != 1) {
    return Wrong(kCertificate, files.certificate, LastReason());
  }
  X509* certificate = SSL_CTX_get0_certificate(context.get());
  const std::string bare = host.front() == '[' ? host.substr(1, host.size() - 2) : host;
  const bool names_it = X509_check_ip_asc(certificate, bare.c_str(), 0) == 1 ||
                        X509_check_host(certificate, bare.data(), bare.size(),
                                        X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) == 1;
  if (names_it) return absl::OkStatus();
  return Wrong(kCertificate, files.certificate,
               absl::StrCat("does not name the host ", bare,
                            " (subjectAltName), by which others reach this worker; give --listen a "
                            "host that it names, or another certificate"));
}

}  // namespace sinkforge::base
