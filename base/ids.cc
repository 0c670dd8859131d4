// Random identifiers; see ids.h.
#include "base/ids.h"

#include <sys/random.h>

#include "base/check.h"

namespace sinkforge::base {

std::string RandomId() {
  unsigned char bytes[16];
  SINKFORGE_REQUIRE(getrandom(bytes, sizeof(bytes), 0) == static_cast<ssize_t>(sizeof(bytes)));
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string id;
  for (const unsigned char byte : bytes) {
    id += kDigits[byte >> 4];
    id += kDigits[byte & 15];
  }
  return id;
}

bool IsTraceId(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos &&
         text.find_first_not_of('0') != std::string::npos;
}

std::string TraceIdOf(const std::string& traceparent) {
  constexpr size_t kTraceBegin = 3;
  constexpr size_t kTraceEnd = 35;
  const bool has_form = traceparent.size() >= 55 && traceparent[2] == '-' &&
                        traceparent[kTraceEnd] == '-' && traceparent.compare(0, 2, "ff") != 0;
  if (!has_form) return "";
  const std::string id = traceparent.substr(kTraceBegin, kTraceEnd - kTraceBegin);
  return IsTraceId(id) ? id : "";
}

}  // namespace sinkforge::base
