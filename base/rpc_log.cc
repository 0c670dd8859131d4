// Takes over gRPC's log; see rpc_log.h.
#include "base/rpc_log.h"

#include <grpc/support/log.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/log.h"
#include "base/log_limit.h"
#include "base/mutex.h"

namespace sinkforge::base {
namespace {

// Aligned like what mold 1.10 puts behind it: at the last bytes of a page it would be the beginning
// of what is made read-only after relocation, on a page that is not mapped, and a program that does
// not start ("cannot apply additional memory protection").
alignas(16) thread_local bool quiet = false;

std::optional<int64_t> AdmitNow(const std::string& text) {
  static Mutex mutex;
  static auto* limit = new LogLimit;  // leaked: gRPC's threads outlive static objects
  MutexLock lock(&mutex);
  return limit->Admit(text, std::chrono::steady_clock::now().time_since_epoch());
}

void LogError(gpr_log_func_args* line) {
  if (quiet || line->severity < GPR_LOG_SEVERITY_ERROR) return;
  const std::string text = line->message;
  const auto left_out = AdmitNow(text);
  if (!left_out.has_value()) return;
  LogFields fields{{"error", text}};
  if (*left_out > 0) fields.push_back({"left_out", *left_out});
  Log(Severity::kWarning, "gRPC reports an error", fields, {});
}

}  // namespace

void LogGrpcErrors() { gpr_set_log_function(LogError); }

void SilenceGrpc() {
  gpr_set_log_function([](gpr_log_func_args*) {});
}

QuietGrpc::QuietGrpc() { quiet = true; }
QuietGrpc::~QuietGrpc() { quiet = false; }

}  // namespace sinkforge::base
