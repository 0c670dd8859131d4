// The file that tells whoever started a daemon where it listens.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace sinkforge::base {

// OK where there is a folder for `path`, the value of --port-file, and for the empty path, which is
// none. A daemon asks before it opens anything: when it writes the file, others rely on it already.
// INVALID_ARGUMENT: there is no such folder.
absl::Status CheckPortFile(const std::string& path);

}  // namespace sinkforge::base
