// What may be replaced; see output_file.h.
#include "client/output_file.h"

#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"

namespace sinkforge::client {

absl::Status CheckOutputFile(const std::string& path, ExistingFile existing) {
  if (path == "-") {
    return UsageError(
        "-: this goes to a file, not to stdout; give a name (./- is a file called so)");
  }
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return absl::OkStatus();
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": is there and is no regular file; give another name"));
  }
  if (existing == ExistingFile::kRefuse) {
    return absl::AlreadyExistsError(absl::StrCat(path, ": exists already; --force replaces it"));
  }
  return absl::OkStatus();
}

}  // namespace sinkforge::client
