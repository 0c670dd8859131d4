// The options of encryption, which both daemons take.
#pragma once

#include <CLI/CLI.hpp>

#include "base/tls.h"

namespace sinkforge::base {

inline void AddTlsFlags(CLI::App* app, TlsFiles* files) {
  app->add_option("--tls-cert", files->certificate,
                  "Certificate of this daemon (PEM), for encryption; it names the host that others "
                  "reach it by, and they must show one of --tls-ca as well");
  app->add_option("--tls-key", files->key, "Key of --tls-cert (PEM)");
  app->add_option("--tls-ca", files->authority,
                  "Certificates of the authorities that are believed (PEM)");
}

}  // namespace sinkforge::base
