// UTF-8 and normalisation form C.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace sinkforge::tokenizer {

bool IsValidUtf8(std::string_view text);
// The position of the first byte that is not part of a character; text.size() where there is none.
size_t FirstInvalidUtf8(std::string_view text);
// How many bytes from the start of `text` are whole characters: all but a last one cut short.
size_t WholeCharacters(std::string_view text);
// True for the bytes 10xxxxxx, at which no character begins.
inline bool IsContinuation(char byte) { return (static_cast<unsigned char>(byte) >> 6) == 2; }

struct DecodedCharacter {
  char32_t code = 0;
  size_t bytes = 0;
};
// The character at the start of a valid, non-empty text.
DecodedCharacter DecodeCharacter(std::string_view text);
void AppendUtf8(char32_t code, std::string* text);

// The text in normalisation form C as the `tokenizers` package makes it (marks newer than Unicode 9
// stay in place), or nothing where it has that form already. Valid UTF-8 only.
std::optional<std::string> ToNfc(std::string_view text);

// White space as Unicode's property White_Space defines it.
bool IsWhiteSpace(char32_t code);
// Letters, digits, marks, connectors: what a regular expression calls \w.
bool IsWordCharacter(char32_t code);

}  // namespace sinkforge::tokenizer
