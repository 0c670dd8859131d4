// Listening addresses; see address.h.
#include "base/address.h"

#include <arpa/inet.h>

#include <charconv>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace sinkforge::base {
namespace {

bool IsPort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// A name other than "localhost" is not: it may resolve to anything.
bool IsLoopback(std::string host) {
  if (host == "localhost") return true;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  in_addr four{};
  if (inet_pton(AF_INET, host.c_str(), &four) == 1) return ntohl(four.s_addr) >> 24 == 127;
  in6_addr six{};
  return inet_pton(AF_INET6, host.c_str(), &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

}  // namespace

absl::Status CheckListenAddress(const std::string& address, const std::string& flag, Reach reach) {
  if (absl::StartsWith(address, "unix:")) return absl::OkStatus();
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || !IsPort(std::string_view(address).substr(colon + 1))) {
    return absl::InvalidArgumentError(absl::StrCat(
        flag, " ", address, ": give host:port, with a port of 1 to 65535, or 0 to get a free one"));
  }
  if (reach == Reach::kAnywhere || IsLoopback(address.substr(0, colon))) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      flag, " ", address,
      ": not a loopback address, and what is sent there would not be encrypted; give "
      "--insecure-listen to listen there all the same",
      flag == "--listen" ? ", or a certificate with --tls-cert, --tls-key and --tls-ca" : ""));
}

}  // namespace sinkforge::base
