// Whether a port file can be written, and its end; see port_file.h.
#include "base/port_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/ids.h"

namespace sinkforge::base {
namespace {

absl::Status Refuse(const std::string& path, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("--port-file ", path, ": ", why));
}

}  // namespace

absl::Status CheckPortFile(const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder, error)) {
    return Refuse(path, absl::StrCat("there is no folder ", folder.string(),
                                     "; make it first, or give another"));
  }
  if (std::filesystem::is_directory(path, error)) {
    return Refuse(path, "is a folder; give the path of a file");
  }
  // Only a try tells: permissions do not say that a file system is read-only.
  const std::string trial = absl::StrCat(path, ".", RandomId(), ".tmp");
  const int file = open(trial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file < 0) {
    return Refuse(
        path, absl::StrCat("no file can be made in ", folder.empty() ? "." : folder.string(), " (",
                           strerror(errno), "); give another folder"));
  }
  close(file);
  unlink(trial.c_str());
  return absl::OkStatus();
}

void RemovePortFile(const std::string& path) {
  if (!path.empty()) unlink(path.c_str());  // one that is gone already is as well
}

}  // namespace sinkforge::base
