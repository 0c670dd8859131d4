// Random identifiers from the kernel's generator: request ids, incarnations, trainer tokens.
#pragma once

#include <string>

namespace sinkforge::base {

// 32 hexadecimal digits, 128 random bits.
std::string RandomId();

// W3C trace context: 32 lower-case hexadecimal digits, not all zero.
bool IsTraceId(const std::string& text);
// The trace id of a `traceparent` header or variable ("00-<trace id>-<span id>-<flags>"); empty
// where it is none.
std::string TraceIdOf(const std::string& traceparent);

}  // namespace sinkforge::base
