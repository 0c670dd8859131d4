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

}  // namespace sinkforge::base
