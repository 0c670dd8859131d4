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

// Now, and not when the file is written after minutes of work.
absl::Status CheckFolderOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  const std::string folder = parent.empty() ? "." : parent;
  struct stat info {};
  if (stat(folder.c_str(), &info) != 0 && errno == ENOENT) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": cannot be written: the folder ", folder,
                     " does not exist; create it, or give another name"));
  }
  // The folder of a path that ends with a slash, or goes through a file, is none.
  if (access((folder + "/").c_str(), W_OK | X_OK) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": cannot be written: the folder ",
                                                      folder, ": ", std::strerror(errno),
                                                      "; give another name"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckOutputFile(const std::string& path, ExistingFile existing) {
  if (path == "-") {
    return UsageError(
        "-: this goes to a file, not to stdout; give a name (./- is a file called so)");
  }
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return CheckFolderOf(path);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": is there and is no regular file; give another name"));
  }
  if (existing == ExistingFile::kRefuse) {
    return absl::AlreadyExistsError(absl::StrCat(path, ": exists already; --force replaces it"));
  }
  return CheckFolderOf(path);
}

}  // namespace sinkforge::client
