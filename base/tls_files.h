// The files of mutual TLS, and what is wrong with them.
#pragma once

#include <chrono>
#include <string>

#include "absl/status/statusor.h"

namespace sinkforge::base {

// Paths of PEM files. All three, or none for plain text.
struct TlsFiles {
  std::string certificate;  // of this process, and what is between it and the authority
  std::string key;          // of the certificate, without a passphrase
  std::string authority;    // certificates of those who may sign others' (and this one)

  bool empty() const { return certificate.empty() && key.empty() && authority.empty(); }
};

// Of a certificate.
struct TlsValidity {
  std::chrono::system_clock::time_point from;
  std::chrono::system_clock::time_point until;
};

// As a peer that believes the same authority would check them, now. INVALID_ARGUMENT names the
// option and the file: one is missing or cannot be read, key and certificate do not belong
// together, the certificate has expired, or the authority has not signed it.
absl::StatusOr<TlsValidity> CheckTlsFiles(const TlsFiles& files);

// INVALID_ARGUMENT unless the certificate, which CheckTlsFiles has found right, names the host (a
// DNS name, or an address with or without brackets) under subjectAltName: who calls a daemon by it
// would not believe it.
absl::Status CheckTlsHost(const TlsFiles& files, const std::string& host);

}  // namespace sinkforge::base
