// Whether the other side of a connection serves, and why it cannot be reached, for people.
#pragma once

#include <grpcpp/channel.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/status.h"

namespace sinkforge::base {

// Asks the health service once, without waiting for a connection. FAILED_PRECONDITION: it answers
// that it does not serve. Anything else is gRPC's error, which says why nobody could be asked.
absl::Status AskHealth(const std::shared_ptr<grpc::Channel>& channel,
                       std::chrono::nanoseconds patience);

// What gRPC's error of a call that found no connection says of the other side, where it has to do
// with encryption, as the end of a sentence; else empty. `is_encrypted`: this side is.
std::string EncryptionHint(const std::string& error, bool is_encrypted);

}  // namespace sinkforge::base
