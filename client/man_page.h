// Manual pages, made from the command tree as --help is. Pure: the tree in, the text out.
#pragma once

#include <map>
#include <string>

#include "client/command.h"

namespace sinkforge::client {

// File name -> text in the man macros, section 1: "sinkforge.1", "sinkforge-checkpoints-export.1".
// `version` is shown at the foot of each page.
std::map<std::string, std::string> ManPages(const Command& root, const std::string& version);

}  // namespace sinkforge::client
