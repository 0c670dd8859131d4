// Small files: read whole, write so that a crash leaves the old or the new content.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinkforge::base {

// NOT_FOUND, RESOURCE_EXHAUSTED (larger than bytes_max), or the system's error; each names the
// path.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t bytes_max);
// Temporary file, fsync, rename, fsync of the folder.
absl::Status WriteFileDurably(const std::string& path, const std::string& content);
// With its parents. OK where it exists.
absl::Status MakeFolder(const std::string& path);
// Free bytes of the file system that holds `path`.
absl::StatusOr<int64_t> DiskFreeBytes(const std::string& path);

}  // namespace sinkforge::base
