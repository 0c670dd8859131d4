// One table of 256 characters and its inverse, made at the first use.
#include "tokenizer/byte_alphabet.h"

#include <array>

#include "tokenizer/unicode.h"

namespace sinkforge::tokenizer {
namespace {

constexpr char32_t kFirstOther = 0x100;
constexpr size_t kCharacters = 0x100 + 68;

constexpr bool StandsForItself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char32_t, 256> MakeAlphabet() {
  std::array<char32_t, 256> characters{};
  char32_t next = kFirstOther;
  for (unsigned byte = 0; byte < 256; ++byte) {
    characters[byte] = StandsForItself(byte) ? byte : next++;
  }
  return characters;
}

constexpr std::array<char32_t, 256> kAlphabet = MakeAlphabet();

constexpr std::array<int, kCharacters> MakeInverse() {
  std::array<int, kCharacters> bytes{};
  for (int& byte : bytes) byte = -1;
  for (int byte = 0; byte < 256; ++byte) bytes[kAlphabet[static_cast<size_t>(byte)]] = byte;
  return bytes;
}

constexpr std::array<int, kCharacters> kInverse = MakeInverse();

}  // namespace

char32_t CharacterOfByte(uint8_t byte) { return kAlphabet[byte]; }

std::string ToAlphabet(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) AppendUtf8(CharacterOfByte(static_cast<uint8_t>(c)), &text);
  return text;
}

std::optional<std::string> FromAlphabet(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const DecodedCharacter character = DecodeCharacter(text);
    const bool known = character.code < kCharacters && kInverse[character.code] >= 0;
    if (!known) return std::nullopt;
    bytes += static_cast<char>(kInverse[character.code]);
    text.remove_prefix(character.bytes);
  }
  return bytes;
}

}  // namespace sinkforge::tokenizer
