// Addresses that daemons listen on.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace sinkforge::base {

// Who may reach what listens without encryption.
enum class Reach { kLoopback, kAnywhere };

// OK for "host:port" with a port of 0 (any) to 65535 and for "unix:/path". INVALID_ARGUMENT, naming
// `flag`, for anything else, and with kLoopback for what others than this machine could reach.
absl::Status CheckListenAddress(const std::string& address, const std::string& flag, Reach reach);

}  // namespace sinkforge::base
