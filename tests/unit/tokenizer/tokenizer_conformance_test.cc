// What holds for every Tokenizer.
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <random>

#include "tests/unit/tokenizer/test_support.h"

namespace sinkforge::tokenizer {
namespace {

// Composed characters only, so that normalising changes nothing; no added token.
constexpr char kText[] =
    "In the beginning God created the heaven and the earth.\n\n  And the earth was without form, "
    "and void;\tand it's 1234567 days -- na\xC3\xAFve \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80!!"
    "   \r\n\r\nx=1;  return  foo(bar)[0]   ";

class TokenizerConformanceTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string name = GetParam();
    tokenizer_ = Load(name == "bytes" ? name : GoldenPath(name + ".json"));
    encoder_ = tokenizer_->MakeEncoder();
  }

  std::unique_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<Encoder> encoder_;
};

TEST_P(TokenizerConformanceTest, DecodesWhatItEncoded) {
  std::string zeros("a\0b", 3);
  for (const std::string& text : {std::string(kText), std::string(), zeros, std::string("\n")}) {
    EXPECT_EQ(Decode(*tokenizer_, Encode(*tokenizer_, text)), text);
  }
}

TEST_P(TokenizerConformanceTest, EveryIdIsInsideOfTheVocabulary) {
  for (const int32_t id : Encode(*tokenizer_, kText)) {
    EXPECT_GE(id, 0);
    EXPECT_LT(id, tokenizer_->vocab_size());
  }
}

TEST_P(TokenizerConformanceTest, BytesPerTokenAddUpToTheText) {
  const std::vector<int32_t> bytes = BytesPerToken(*tokenizer_);
  ASSERT_EQ(static_cast<int64_t>(bytes.size()), tokenizer_->vocab_size());
  int64_t total = 0;
  for (const int32_t id : Encode(*tokenizer_, kText)) total += bytes[static_cast<size_t>(id)];
  EXPECT_EQ(total, static_cast<int64_t>(sizeof(kText) - 1));
}

TEST_P(TokenizerConformanceTest, TheTokenThatBeginsDocumentsIsSpecialAndHasNoBytes) {
  ASSERT_TRUE(tokenizer_->bos_id().has_value());
  EXPECT_TRUE(tokenizer_->IsSpecial(*tokenizer_->bos_id()));
  EXPECT_EQ(BytesPerToken(*tokenizer_)[static_cast<size_t>(*tokenizer_->bos_id())], 0);
}

TEST_P(TokenizerConformanceTest, FindsTokensByWhatTheyStandFor) {
  EXPECT_EQ(tokenizer_->FindToken("a"), Encode(*tokenizer_, "a")[0]);
  const int32_t bos = *tokenizer_->bos_id();
  EXPECT_EQ(tokenizer_->FindToken(tokenizer_->TokenBytes(bos)), bos);
  EXPECT_EQ(tokenizer_->FindToken("no such token"), std::nullopt);
}

TEST_P(TokenizerConformanceTest, ASecondEncoderAndASecondCallGiveTheSame) {
  const std::vector<int32_t> once = Encode(*tokenizer_, kText);
  EXPECT_EQ(*EncodeDocument(*tokenizer_, kText, encoder_.get()), once);
  EXPECT_EQ(*EncodeDocument(*tokenizer_, kText, encoder_.get()), once);
}

TEST_P(TokenizerConformanceTest, TextThatIsNotUtf8IsRefusedAtItsByte) {
  const auto ids = EncodeDocument(*tokenizer_, "ab\xFFg", encoder_.get());
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(ids.status().message().find("byte 2"), std::string::npos) << ids.status();
}

// Long texts are encoded in ranges, by several threads; this is what makes the joins right.
TEST_P(TokenizerConformanceTest, RangesMeetAtTheFirstPieceTheyShare) {
  ASSERT_TRUE(tokenizer_->memoryless());
  const std::string text = std::string(kText) + kText + kText;
  std::vector<PieceMark> true_marks;
  std::vector<int32_t> true_ids;
  encoder_->EncodeRange({text, 0, text.size()}, &true_ids, &true_marks);
  std::map<size_t, size_t> ids_before;
  for (const PieceMark& mark : true_marks) ids_before[mark.position] = mark.ids_before;
  for (size_t begin = 1; begin < text.size(); ++begin) {
    if ((static_cast<unsigned char>(text[begin]) >> 6) == 2) continue;
    std::vector<PieceMark> marks;
    std::vector<int32_t> ids;
    const size_t end = encoder_->EncodeRange({text, begin, text.size()}, &ids, &marks);
    ASSERT_EQ(end, text.size());
    for (const PieceMark& mark : marks) {
      const auto met = ids_before.find(mark.position);
      if (met == ids_before.end()) continue;
      ASSERT_TRUE(std::equal(ids.begin() + static_cast<int64_t>(mark.ids_before), ids.end(),
                             true_ids.begin() + static_cast<int64_t>(met->second), true_ids.end()))
          << begin;
      break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, TokenizerConformanceTest,
                         testing::Values("bytes", "gpt2", "llama3", "qwen"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace sinkforge::tokenizer
