// What may be replaced; see output_file.h.
#include "client/output_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"

namespace sinkforge::client {
namespace {

// Before any work is done for a file that could not be written.
absl::Status CheckFolder(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": cannot be written to the folder ", folder.empty() ? "." : folder, ": ",
                   std::strerror(errno), "; make it, or give another name"));
}

}  // namespace

absl::Status CheckOutputFile(const std::string& path, ExistingFile existing) {
  if (path == "-") {
    return UsageError(
        "-: this goes to a file, not to stdout; give a name (./- is a file called so)");
  }
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return CheckFolder(path);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": is there and is no regular file; give another name"));
  }
  if (existing == ExistingFile::kRefuse) {
    return absl::AlreadyExistsError(absl::StrCat(path, ": exists already; --force replaces it"));
  }
  return CheckFolder(path);
}

}  // namespace sinkforge::client
