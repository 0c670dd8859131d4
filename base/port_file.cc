// Whether a port file can be written; see port_file.h.
#include "base/port_file.h"

#include <filesystem>

#include "absl/strings/str_cat.h"

namespace sinkforge::base {

absl::Status CheckPortFile(const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (folder.empty() || std::filesystem::is_directory(folder, error)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--port-file ", path, ": there is no folder ",
                                                 folder.string(),
                                                 "; make it first, or give another"));
}

}  // namespace sinkforge::base
