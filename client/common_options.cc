// The common options.
#include "client/common_options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sinkforge::client {

std::vector<Option> CommonOptions(const std::vector<std::string>& formats, GlobalOptions* global) {
  std::vector<Option> options = {
      {"--coordinator", "HOST:PORT",
       "Address; else $SINKFORGE_COORDINATOR, the local instance, 127.0.0.1:7070",
       &global->coordinator},
      {"--retry-for", "SECONDS",
       "How long to try again while the coordinator does not answer (default: 1.5 where it never "
       "did, else 15, and 60 for what is followed)",
       &global->retry_seconds},
      {"--tls-cert", "FILE",
       "Certificate to show; else $SINKFORGE_TLS_CERT. Without one: plain text",
       &global->tls.certificate},
      {"--tls-key", "FILE", "Its key; else $SINKFORGE_TLS_KEY", &global->tls.key},
      {"--tls-ca", "FILE", "Authorities that daemons are believed by; else $SINKFORGE_TLS_CA",
       &global->tls.authority}};
  if (!formats.empty()) {
    options.push_back({"-o,--output", "FORMAT",
                       absl::StrCat("One of ", absl::StrJoin(formats, ", ")), &global->format,
                       formats});
  }
  return options;
}

}  // namespace sinkforge::client
