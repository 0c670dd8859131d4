// The options that a command has beside its own: one list for the parser, the completion scripts
// and the manual pages.
#pragma once

#include <vector>

#include "client/command.h"
#include "client/session.h"

namespace sinkforge::client {

// The root and every command that runs take them; -o only where the command prints in `formats`.
std::vector<Option> CommonOptions(const std::vector<std::string>& formats, GlobalOptions* global);

}  // namespace sinkforge::client
