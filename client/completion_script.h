// Completion scripts for bash, zsh and fish. Pure: the tree in, the script out.
#pragma once

#include <string>

#include "client/command.h"

namespace sinkforge::client {

// `shell`: "bash", "zsh" or "fish".
std::string CompletionScript(const Command& root, const std::string& shell);

}  // namespace sinkforge::client
