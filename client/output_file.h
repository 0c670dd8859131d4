// Files that a command writes at its end, under a name that the user gave.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace sinkforge::client {

enum class ExistingFile { kRefuse, kReplace };

// Whether `path` can be given to a new file. ALREADY_EXISTS: a file is there and may not be
// replaced. FAILED_PRECONDITION: its folder does not exist or cannot be written, or something else
// is there; the file comes by a rename, which would turn a device or a link into a plain file.
// INVALID_ARGUMENT: `path` is "-", which elsewhere means stdout.
absl::Status CheckOutputFile(const std::string& path, ExistingFile existing);

}  // namespace sinkforge::client
