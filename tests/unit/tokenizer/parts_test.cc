// The parts of the tokenizers, each alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tokenizer/added_tokens.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/merge_table.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/unicode.h"

namespace sinkforge::tokenizer {
namespace {

using testing::ElementsAre;

TEST(ByteAlphabetTest, IsABijectionOfAllBytes) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  EXPECT_EQ(FromAlphabet(ToAlphabet(bytes)), bytes);
  EXPECT_EQ(ToAlphabet("a b\n"),
            "a\xC4\xA0"
            "b\xC4\x8A");
  EXPECT_EQ(FromAlphabet(" "), std::nullopt);
  EXPECT_EQ(FromAlphabet("\xE2\x82\xAC"), std::nullopt);
}

TEST(UnicodeTest, FindsTheFirstByteThatIsNoCharacter) {
  EXPECT_EQ(FirstInvalidUtf8("ab"), 2U);
  for (const char* tail : {"\xC0\x80", "\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                           "\xF5", "\xE2\x82", "\xF0\x9F\x98"}) {
    const std::string text = std::string("\xC3\xA9") + tail;
    EXPECT_EQ(FirstInvalidUtf8(text), 2U);
    EXPECT_FALSE(IsValidUtf8(text));
  }
}

TEST(UnicodeTest, CountsWholeCharacters) {
  EXPECT_EQ(WholeCharacters(""), 0U);
  EXPECT_EQ(WholeCharacters("ab"), 2U);
  EXPECT_EQ(WholeCharacters("a\xE2\x82"), 1U);
  EXPECT_EQ(WholeCharacters("a\xE2\x82\xAC"), 4U);
  EXPECT_EQ(WholeCharacters("a\xF0\x9F\x98"), 1U);
  EXPECT_EQ(WholeCharacters("a\xFF"), 2U);  // never to become a character
}

TEST(UnicodeTest, NormalisesOnlyWhatIsNotNormal) {
  EXPECT_EQ(ToNfc("caf\xC3\xA9"), std::nullopt);
  EXPECT_EQ(ToNfc("cafe\xCC\x81"), "caf\xC3\xA9");
  EXPECT_EQ(ToNfc("\xE1\x84\x80\xE1\x85\xA1"), "\xEA\xB0\x80");  // Hangul
}

TEST(UnicodeTest, LeavesMarksInPlaceThatUnicode9DoesNotKnow) {
  // Classes 230 and 220, which Unicode 9 has, change places; U+1AC1 and U+1AC3 have them since 14.
  EXPECT_EQ(ToNfc("x\u0301\u0323"), "x\u0323\u0301");
  EXPECT_EQ(ToNfc("x\u1AC1\u1AC3"), std::nullopt);
  EXPECT_EQ(ToNfc("e\u1AC3\u0301"), std::nullopt);  // and nothing composes across one
  EXPECT_EQ(ToNfc("e\u0301\u1AC3x\u0301\u0323"), "\u00E9\u1AC3x\u0323\u0301");
  EXPECT_EQ(ToNfc("\U00011935\U00011930"), std::nullopt);  // one character since Unicode 13
  EXPECT_EQ(ToNfc("\uC5B4\u11A7"), std::nullopt);          // no final consonant
}

// Text and tokens as one string: tokens in braces.
std::string Split(const AddedTokens& tokens, std::string_view text) {
  std::vector<Segment> segments;
  tokens.Split(text, &segments);
  std::ostringstream result;
  for (const Segment& segment : segments) {
    if (segment.token.has_value()) {
      result << '{' << *segment.token << '}';
    } else {
      result << '[' << segment.text << ']';
    }
  }
  return result.str();
}

TEST(AddedTokensTest, TakesTheLongestFromTheLeft) {
  const AddedTokens tokens(
      {{.id = 1, .content = "<a>"}, {.id = 2, .content = "<a>b"}, {.id = 3, .content = "b<"}});
  EXPECT_EQ(Split(tokens, "x<a>y<a>b<a>"), "[x]{1}[y]{2}{1}");
  EXPECT_EQ(Split(tokens, "b<a>"), "{3}[a>]");
  EXPECT_EQ(Split(tokens, "<a"), "[<a]");
  EXPECT_EQ(Split(tokens, ""), "");
}

TEST(AddedTokensTest, StripsSpacesAndStandsAlone) {
  const AddedTokens tokens({{.id = 1, .content = "<l>", .lstrip = true},
                            {.id = 2, .content = "<r>", .rstrip = true},
                            {.id = 3, .content = "<w>", .single_word = true}});
  EXPECT_EQ(Split(tokens, "a \n<l> b"), "[a]{1}[ b]");
  EXPECT_EQ(Split(tokens, "a <r> \xE3\x80\x80 b"), "[a ]{2}[b]");
  EXPECT_EQ(Split(tokens, "<r>  <l>"), "{2}{1}");
  EXPECT_EQ(Split(tokens, "a<w> <w>\xC3\xA9 <w>"), "[a<w> <w>\xC3\xA9 ]{3}");
}

TEST(MergeTableTest, MergesTheLowestRankFirstAndTheLeftmostOfEquals) {
  std::array<int32_t, 256> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<int32_t>(i);
  // bc before ab; aa overlaps itself.
  const MergeTable table({{'b', 'c', 300}, {'a', 'b', 301}, {'a', 'a', 302}, {302, 302, 303}},
                         bytes);
  const auto encode = [&](std::string_view piece) {
    MergeScratch scratch;
    std::vector<int32_t> ids;
    table.Encode(piece, &scratch, &ids);
    return ids;
  };
  EXPECT_THAT(encode("abc"), ElementsAre('a', 300));
  EXPECT_THAT(encode("abd"), ElementsAre(301, 'd'));
  EXPECT_THAT(encode("aaaaa"), ElementsAre(303, 'a'));
  EXPECT_THAT(encode(""), ElementsAre());
  EXPECT_EQ(encode(std::string(100'000, 'a')).size(), 25'000U);
}

TEST(PieceCacheTest, ForgetsWhenItIsFullAndIsRightAllTheTime) {
  PieceCache cache;
  for (int round = 0; round < 2; ++round) {
    for (int32_t i = 0; i < 100'000; ++i) {
      const std::string piece = "piece " + std::to_string(i);
      std::vector<int32_t> ids = {-1};
      if (!cache.Find(piece, &ids)) {
        const std::vector<int32_t> made = {i, i + 1};
        cache.Add(piece, made);
        ASSERT_TRUE(cache.Find(piece, &ids));
      }
      ASSERT_THAT(ids, ElementsAre(-1, i, i + 1));
    }
  }
  std::vector<int32_t> ids;
  EXPECT_FALSE(cache.Find(std::string(1000, 'x'), &ids));
}

}  // namespace
}  // namespace sinkforge::tokenizer
