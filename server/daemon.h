// Daemon: the coordinator as a whole, wired together; what main.cc starts, and tests start in their
// own process.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/address.h"
#include "base/clock.h"
#include "base/tls.h"
#include "server/engine/retention.h"

namespace sinkforge::server {

struct DaemonOptions {
  std::string listen = "127.0.0.1:7070";
  std::string metrics_listen = "127.0.0.1:9470";  // empty: no /metrics
  std::string http_listen;                        // empty: no page
  std::string data_dir;
  base::Reach reach = base::Reach::kLoopback;
  base::TlsFiles tls;  // for gRPC; the metrics and the page are never encrypted
  std::chrono::nanoseconds lease = std::chrono::seconds(5);
  RetentionOptions retention;
  std::chrono::nanoseconds retention_interval = std::chrono::seconds(5);
  std::chrono::nanoseconds last_words_wait = std::chrono::seconds(1);  // see RpcContext
  std::string version;
};

class Daemon {
 public:
  // Serves when it returns; the clock outlives it. INVALID_ARGUMENT: a flag. FAILED_PRECONDITION:
  // the data directory belongs to a newer version, or another process has it open. UNAVAILABLE: an
  // address is in use. DATA_LOSS, RESOURCE_EXHAUSTED: the data directory.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const DaemonOptions& options,
                                                       const base::Clock* clock);
  // Shuts down.
  ~Daemon();

  int port() const;
  int metrics_port() const;  // 0 without /metrics
  int http_port() const;     // 0 without a page

  // Graceful: says NOT_SERVING, ends streams, answers what was accepted, and closes the databases.
  void Shutdown();

 private:
  class Impl;
  explicit Daemon(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sinkforge::server
