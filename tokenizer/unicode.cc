// simdjson checks UTF-8 at memory speed; utf8proc has the tables of Unicode.
#include "tokenizer/unicode.h"

#include <simdjson.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/check.h"
#include "tokenizer/unicode_additions.h"

namespace sinkforge::tokenizer {
namespace {

// Bytes of the character at the start of `text`, 0 where it is none (Unicode 3.9, table 3-7), and
// -1 where the text ends inside one.
int CharacterBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const int bytes = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  for (int i = 1; i < bytes; ++i) {
    if (static_cast<size_t>(i) >= text.size()) return -1;
    const unsigned char next = byte(static_cast<size_t>(i));
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (i == 1) {
      if (first == 0xE0) low = 0xA0;   // no longer form than needed
      if (first == 0xED) high = 0x9F;  // no surrogates
      if (first == 0xF0) low = 0x90;
      if (first == 0xF4) high = 0x8F;  // nothing above U+10FFFF
    }
    if (next < low || next > high) return 0;
  }
  return bytes;
}

// What is in a word beside letters, marks, digits and connectors: joiners, and letters in circles
// and squares.
constexpr CharacterRange kWordSymbols[] = {
    {0x200C, 0x200D}, {0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};

bool Holds(std::span<const CharacterRange> ranges, char32_t code) {
  const auto ends_before = [](const CharacterRange& range, char32_t c) { return range.last < c; };
  const auto found = std::lower_bound(ranges.begin(), ranges.end(), code, ends_before);
  return found != ranges.end() && found->first <= code;
}

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};

// Adds normalisation form C of a text without kUntouchedByNfc.
void AppendNfc(std::string_view text, std::string* normal) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto bytes =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  SINKFORGE_REQUIRE(bytes >= 0);
  const std::unique_ptr<utf8proc_uint8_t, FreeMemory> owned(mapped);
  normal->append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(bytes));
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  return simdjson::validate_utf8(text.data(), text.size());
}

size_t FirstInvalidUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const int bytes = CharacterBytes(text.substr(at));
    if (bytes <= 0) return at;
    at += static_cast<size_t>(bytes);
  }
  return at;
}

size_t WholeCharacters(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const size_t at = text.size() - back;
    if (IsContinuation(text[at])) continue;
    return CharacterBytes(text.substr(at)) < 0 ? at : text.size();
  }
  return text.size();
}

DecodedCharacter DecodeCharacter(std::string_view text) {
  utf8proc_int32_t code = 0;
  const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                      static_cast<utf8proc_ssize_t>(text.size()), &code);
  SINKFORGE_REQUIRE(bytes > 0);
  return {static_cast<char32_t>(code), static_cast<size_t>(bytes)};
}

void AppendUtf8(char32_t code, std::string* text) {
  utf8proc_uint8_t bytes[4];
  const auto count = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes);
  text->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
}

std::optional<std::string> ToNfc(std::string_view text) {
  // Characters below U+0300, whose UTF-8 begins with 0xCC, compose with nothing before them.
  constexpr unsigned char kFirstMark = 0xCC;
  bool plain = true;
  for (const char c : text) plain &= static_cast<unsigned char>(c) < kFirstMark;
  if (plain) return std::nullopt;
  std::string normal;
  normal.reserve(text.size());
  size_t start = 0;  // of what lies between two such characters
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter character = DecodeCharacter(text.substr(at));
    if (Holds(kUntouchedByNfc, character.code)) {
      AppendNfc(text.substr(start, at - start), &normal);
      normal.append(text.substr(at, character.bytes));
      start = at + character.bytes;
    }
    at += character.bytes;
  }
  AppendNfc(text.substr(start), &normal);
  if (normal == text) return std::nullopt;
  return normal;
}

bool IsWhiteSpace(char32_t code) {
  return (code >= 0x9 && code <= 0xD) || code == 0x20 || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000;
}

bool IsWordCharacter(char32_t code) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      break;
  }
  return Holds(kNewLetters, code) || Holds(kNewMarksAndDigits, code) || Holds(kWordSymbols, code);
}

}  // namespace sinkforge::tokenizer
