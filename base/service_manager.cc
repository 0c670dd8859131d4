// The protocol of sd_notify(3), which needs no library of systemd's.
#include "base/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace sinkforge::base {

namespace {

// INVALID_ARGUMENT: `path` is no socket's address; UNAVAILABLE: nobody listens there.
absl::Status Send(const std::string& path, const std::string& state) {
  sockaddr_un address{};
  const bool is_address = path.front() == '/' || path.front() == '@';
  if (!is_address || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError("not the address of a unix socket");
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  // "@name" is an abstract address: its first byte is zero.
  if (path.front() == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::UnavailableError(absl::StrCat("socket: ", std::strerror(errno)));
  const ssize_t sent = sendto(fd, state.data(), state.size(), MSG_NOSIGNAL,
                              reinterpret_cast<const sockaddr*>(&address), length);
  const int error = errno;
  close(fd);
  if (sent == static_cast<ssize_t>(state.size())) return absl::OkStatus();
  return absl::UnavailableError(std::strerror(error));
}

}  // namespace

void NotifyServiceManager(const std::string& state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || *path == '\0') return;
  const absl::Status sent = Send(path, state);
  if (sent.ok()) return;
  LogWarning(absl::StrCat("NOTIFY_SOCKET=", path, ": the service manager was not told ", state,
                          ": ", sent.message()));
}

}  // namespace sinkforge::base
