// The machine as the daemon finds it; see environment.h.
#include "worker/environment.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <sstream>

#include "base/files.h"
#include "worker/process/log_capture.h"

namespace sinkforge::worker {
namespace {

constexpr size_t kNameBytesMax = 63;  // a DNS label
constexpr char kSocketName[] = "/trainer.sock";

std::string HostOf(const std::string& address) { return address.substr(0, address.rfind(':')); }

std::string HostName() {
  std::array<char, 256> name = {};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

bool FitsSocket(const std::string& folder) {
  return folder.size() + sizeof(kSocketName) <= sizeof(sockaddr_un::sun_path);
}

// Others must not be able to enter it, nor to have made it before us.
absl::Status MakePrivateFolder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::UnavailableError("folder " + path + ": " + std::strerror(errno));
  }
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid() ||
      chmod(path.c_str(), 0700) != 0) {
    return absl::FailedPreconditionError("folder " + path +
                                         ": is not a folder of this user; remove it");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckWorkerName(const std::string& name) {
  const bool fits = !name.empty() && name.size() <= kNameBytesMax;
  if (fits && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
      })) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("worker name \"" + name +
                                    "\": must be 1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-'; "
                                    "choose one with --name");
}

std::string DefaultWorkerName() {
  const std::string name = HostName().substr(0, kNameBytesMax);
  return CheckWorkerName(name).ok() ? name : "worker";
}

std::string AdvertisedAddress(const std::string& address, int port) {
  std::string host = HostOf(address);
  if (host == "0.0.0.0" || host == "[::]" || host.empty()) host = HostName();
  return host + ":" + std::to_string(port);
}

absl::StatusOr<std::vector<std::string>> ResolveDataRoots(const std::vector<std::string>& roots) {
  std::vector<std::string> resolved;
  for (const std::string& root : roots) {
    std::error_code error;
    const std::filesystem::path path = std::filesystem::canonical(root, error);
    if (error || !std::filesystem::is_directory(path, error)) {
      return absl::NotFoundError("data root " + root +
                                 ": no such folder; make it, or give the right one with "
                                 "--data-root");
    }
    // Messages to the coordinator hold UTF-8 only: one with such a root would not arrive.
    const std::string shown = RepairUtf8(path.string());
    if (shown != path.string()) {
      return absl::InvalidArgumentError("data root " + shown +
                                        ": its name is not UTF-8; rename it, or name another with "
                                        "--data-root");
    }
    resolved.push_back(path.string());
  }
  return resolved;
}

absl::StatusOr<std::string> ResolveTrainer(const std::string& trainer) {
  std::error_code error;
  std::filesystem::path path = trainer;
  if (trainer.empty()) {
    path =
        std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "sinkforge-trainer";
  }
  // Absolute, because trainers start in another folder.
  path = std::filesystem::absolute(path, error);
  if (!std::filesystem::is_regular_file(path, error) || access(path.c_str(), X_OK) != 0) {
    return absl::NotFoundError("trainer " + path.string() +
                               ": not there, or not executable; give its path with --trainer");
  }
  return path.string();
}

absl::StatusOr<std::string> MakeSocketAddress(const std::string& data_dir) {
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(data_dir, error).lexically_normal();
  std::string folder = absolute + "/run";
  if (!FitsSocket(folder)) {
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    // The same name at every start with this data folder, so that nothing piles up.
    std::ostringstream name;
    name << "/sinkforge-" << geteuid() << "-" << std::hex << std::hash<std::string>()(absolute);
    folder = (runtime != nullptr ? runtime : "/tmp") + name.str();
    if (!FitsSocket(folder)) folder = "/tmp" + name.str();
  }
  if (absl::Status made = MakePrivateFolder(folder); !made.ok()) return made;
  return "unix:" + folder + kSocketName;
}

std::string ProcessorName() {
  const auto text = base::ReadFile("/proc/cpuinfo", 16 << 20);
  if (!text.ok()) return "unknown";
  std::istringstream lines(*text);
  std::string line;
  while (std::getline(lines, line)) {
    const size_t colon = line.find(": ");
    if (line.compare(0, 10, "model name") == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

}  // namespace sinkforge::worker
