// What people and other programs gave, made safe to show at a terminal.
#pragma once

#include <string>

namespace sinkforge::client {

// Control characters but line breaks and tabs as \x1b, so that no terminal obeys them.
std::string Printable(const std::string& text);

}  // namespace sinkforge::client
