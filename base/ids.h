// Random identifiers from the kernel's generator: request ids, incarnations, trainer tokens.
#pragma once

#include <string>

namespace sinkforge::base {

// 32 hexadecimal digits, 128 random bits.
std::string RandomId();

}  // namespace sinkforge::base
