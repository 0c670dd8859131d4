// Escapes C0 and C1 control characters.
#include "client/printable.h"

#include "absl/strings/str_cat.h"

namespace sinkforge::client {

std::string Printable(const std::string& text) {
  std::string clean;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool is_c0 = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F;
    // U+0080 to U+009F are control characters, too: 0xC2 and the code itself in UTF-8.
    const bool is_c1 =
        byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (is_c0) {
      absl::StrAppend(&clean, "\\x", absl::Hex(byte, absl::kZeroPad2));
    } else if (is_c1) {
      ++i;
      absl::StrAppend(&clean, "\\x", absl::Hex(static_cast<unsigned char>(text[i])));
    } else {
      clean += text[i];
    }
  }
  return clean;
}

}  // namespace sinkforge::client
