// The command line: parses it by the command tree, runs the command, prints its error.
#pragma once

#include <string>
#include <vector>

#include "client/command.h"
#include "client/session.h"

namespace sinkforge::client {

// `arguments` without the program's name. Returns the exit code.
int RunCommandLine(const std::vector<std::string>& arguments, const Environment& environment);

}  // namespace sinkforge::client
