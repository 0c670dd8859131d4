// The pieces of the three families' patterns, and what is refused.
#include "tokenizer/split_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sinkforge::tokenizer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Pieces(const char* pattern, std::string_view text) {
  const auto compiled = SplitPattern::Compile(pattern);
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  Splitter splitter(**compiled);
  std::vector<std::string> pieces;
  for (size_t at = 0; at < text.size();) {
    const size_t end = splitter.PieceEnd(text, at);
    pieces.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return pieces;
}

TEST(SplitPatternTest, TheFamiliesCutAtTheirPlaces) {
  EXPECT_THAT(Pieces(kGpt2Pattern, "It's 12345  o'CLOCK,\n\n now"),
              ElementsAre("It", "'s", " 12345", " ", " o", "'", "CLOCK", ",", "\n\n", " now"));
  EXPECT_THAT(Pieces(kLlama3Pattern, "It'S 12345  (now),\n\n x"),
              ElementsAre("It", "'S", " ", "123", "45", " ", " (", "now", "),\n\n", " x"));
  EXPECT_THAT(Pieces(kQwenPattern, "a 123\t\n b"),
              ElementsAre("a", " ", "1", "2", "3", "\t\n", " b"));
}

TEST(SplitPatternTest, WhatIsBetweenMatchesIsAPieceToo) {
  EXPECT_THAT(Pieces("b+", "aabbabc"), ElementsAre("aa", "bb", "a", "b", "c"));
}

TEST(SplitPatternTest, SpacesAreThoseOfUnicode) {
  // U+180E was a space before Unicode 6.3.
  EXPECT_THAT(Pieces(R"(\s+)", "\xE1\xA0\x8E\xE2\x80\x83\xC2\x85."),
              ElementsAre("\xE1\xA0\x8E", "\xE2\x80\x83\xC2\x85", "."));
  EXPECT_THAT(Pieces(R"(\S+)", "a b"), ElementsAre("a", " ", "b"));
}

TEST(SplitPatternTest, LettersAndNumbersOfUnicode16AreKnown) {
  EXPECT_THAT(Pieces(R"(\p{L}+)", "a\xF0\xB1\x8D\x90z\xF0\x91\x9B\x90"),
              ElementsAre("a\xF0\xB1\x8D\x90z", "\xF0\x91\x9B\x90"));
  EXPECT_THAT(Pieces(R"([^\p{N}]+)", "a\xF0\x91\x9B\x90"), ElementsAre("a", "\xF0\x91\x9B\x90"));
  EXPECT_THAT(Pieces(R"(\P{N}+)", "a1"), ElementsAre("a", "1"));
}

TEST(SplitPatternTest, ALongRunIsNoDifficulty) {
  const std::string spaces(3'000'000, ' ');
  for (const char* pattern : {kGpt2Pattern, kLlama3Pattern, kQwenPattern}) {
    EXPECT_EQ(Pieces(pattern, spaces + "a").size(), 2U);
    EXPECT_EQ(Pieces(pattern, std::string(1'000'000, 'a')).size(), 1U);
  }
}

TEST(SplitPatternTest, KnowsWhetherAPatternLooksBack) {
  EXPECT_TRUE((*SplitPattern::Compile(kLlama3Pattern))->memoryless());
  EXPECT_FALSE((*SplitPattern::Compile("(?<=a)b|a"))->memoryless());
}

TEST(SplitPatternTest, PartsThatTheEnginesReadDifferentlyAreRefused) {
  for (const char* pattern :
       {"\\w+", "\\bA", "\\h", "[a[bc]]", "[a-z&&b]", "[\\S]", "[\\P{L}]", "^a", "a$", "(?>a)",
        "(ab)*", "a{2}+", "a{2}?", "\\p", "[]a]", "(*UTF)a", "a\\"}) {
    const auto compiled = SplitPattern::Compile(pattern);
    ASSERT_EQ(compiled.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
    EXPECT_THAT(std::string(compiled.status().message()), HasSubstr("split pattern")) << pattern;
  }
}

}  // namespace
}  // namespace sinkforge::tokenizer
