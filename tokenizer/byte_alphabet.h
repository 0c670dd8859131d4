// The alphabet in which byte-level tokenizer files write bytes: every byte is one printable
// character. Printable Latin-1 characters stand for themselves; the other 68 bytes, in their order,
// are U+0100 to U+0143, so that a space is written as U+0120.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sinkforge::tokenizer {

char32_t CharacterOfByte(uint8_t byte);
// A byte string as the file writes it.
std::string ToAlphabet(std::string_view bytes);
// The bytes that a valid UTF-8 text of the alphabet stands for; nothing where one of its characters
// is not in the alphabet.
std::optional<std::string> FromAlphabet(std::string_view text);

}  // namespace sinkforge::tokenizer
