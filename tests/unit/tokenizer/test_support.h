// Paths of the golden tokenizers, and what tests do with tokenizers.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "tokenizer/load.h"

namespace sinkforge::tokenizer {

inline std::string GoldenPath(const std::string& file) {
  const char* source = std::getenv("SINKFORGE_SOURCE_DIR");
  return std::string(source == nullptr ? "." : source) + "/tests/golden/tokenizer/data/" + file;
}

inline std::string ReadText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  EXPECT_FALSE(text.str().empty()) << path;
  return text.str();
}

inline std::unique_ptr<const Tokenizer> Load(const std::string& name) {
  auto tokenizer = LoadTokenizer(name);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

inline std::vector<int32_t> Encode(const Tokenizer& tokenizer, const std::string& text) {
  const auto encoder = tokenizer.MakeEncoder();
  auto ids = EncodeDocument(tokenizer, text, encoder.get());
  EXPECT_TRUE(ids.ok()) << ids.status();
  return *std::move(ids);
}

inline std::string Decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += tokenizer.TokenBytes(id);
  return text;
}

}  // namespace sinkforge::tokenizer
