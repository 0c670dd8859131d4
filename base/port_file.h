// The file that tells whoever started a daemon where it listens.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace sinkforge::base {

// OK where `path`, the value of --port-file, can be written, and for the empty path, which is none.
// A daemon asks before it opens anything: when it writes the file, others rely on it already.
// INVALID_ARGUMENT: there is no such folder, nothing can be written there, or `path` is a folder.
absl::Status CheckPortFile(const std::string& path);

// The daemon ends: what the file says is not true any more. Nothing for the empty path. While its
// database is still locked, so that no next daemon can have written the file already.
void RemovePortFile(const std::string& path);

}  // namespace sinkforge::base
