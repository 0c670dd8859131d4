// From items to tokens: what joins query and choice, where the boundary lies among tokens, and what
// becomes of items that are longer than the context.
#include "worker/trainer/choice_encoding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/tokenizer/test_support.h"
#include "tokenizer/byte_tokenizer.h"

namespace sinkforge::trainer {
namespace {

using testing::HasSubstr;
using testing::SizeIs;
using tokenizer::Decode;
using tokenizer::Encode;

class ChoiceEncodingTest : public testing::Test {
 protected:
  // As text: what is read, and what of it is scored. One sequence.
  std::pair<std::string, std::string> Join(const std::string& context, const std::string& choice) {
    const auto encoded = ChoiceEncoder(encoding_).Encode({context, choice});
    EXPECT_TRUE(encoded.ok()) << encoded.status().message();
    EXPECT_THAT(encoded.value().sequences, SizeIs(1));
    const ScoredSequence& sequence = encoded.value().sequences[0];
    const auto middle = sequence.tokens.end() - sequence.scored;
    return {Decode(*encoding_.tokenizer, {sequence.tokens.begin(), middle}),
            Decode(*encoding_.tokenizer, {middle, sequence.tokens.end()})};
  }
  using Pair = std::pair<std::string, std::string>;

  const std::unique_ptr<const tokenizer::Tokenizer> bytes_ = tokenizer::MakeByteTokenizer();
  const std::unique_ptr<const tokenizer::Tokenizer> gpt2_ =
      tokenizer::Load(tokenizer::GoldenPath("gpt2.json"));
  ChoiceEncoding encoding_ = {bytes_.get(), std::nullopt, std::nullopt, 64};
};

TEST_F(ChoiceEncodingTest, ASpaceJoinsWhatHasNone) {
  for (const tokenizer::Tokenizer* each : {bytes_.get(), gpt2_.get()}) {
    encoding_.tokenizer = each;
    EXPECT_EQ(Join("The sky is", "blue"), Pair("The sky is", " blue"));
    EXPECT_EQ(Join("The sky is", " blue"), Pair("The sky is", " blue"));
    EXPECT_EQ(Join("The sky is ", "blue"), Pair("The sky is", " blue"));
    EXPECT_EQ(Join("Sky?\n", "blue"), Pair("Sky?", "\nblue"));
    EXPECT_EQ(Join("Sky?", "\nblue"), Pair("Sky?", "\nblue"));
  }
}

TEST_F(ChoiceEncodingTest, ADelimiterBelongsToTheQueryButForItsLastSpace) {
  encoding_.delimiter = "\nAnswer: ";
  EXPECT_EQ(Join("Sky?", "blue"), Pair("Sky?\nAnswer:", " blue"));
  encoding_.delimiter = "";
  EXPECT_EQ(Join("Sky", "blue"), Pair("Sky", "blue"));
}

// The pieces of the whole text differ from those of the query where a merge spans both.
TEST_F(ChoiceEncodingTest, ATokenOfBothBelongsToTheChoice) {
  encoding_.tokenizer = gpt2_.get();
  encoding_.delimiter = "";
  const std::vector<int32_t> whole = Encode(*gpt2_, "the there");
  const std::vector<int32_t> query = Encode(*gpt2_, "the th");
  ASSERT_NE(whole[whole.size() - 1], query[query.size() - 1]) << "no merge spans the boundary";
  EXPECT_EQ(Join("the th", "ere"), Pair("the ", "there"));
  // The tokens are those of the text as one, with which the model was trained.
  const auto encoded = ChoiceEncoder(encoding_).Encode({"the th", "ere"});
  EXPECT_EQ(encoded.value().sequences[0].tokens, whole);
}

TEST_F(ChoiceEncodingTest, ADocumentsBeginningStandsBeforeTheQuery) {
  const auto nothing = ChoiceEncoder(encoding_).Encode({"", "blue"});
  EXPECT_FALSE(nothing.ok());
  EXPECT_THAT(nothing.status().message(), HasSubstr("nothing stands before the choice"));
  encoding_.bos = tokenizer::kByteBos;
  const auto encoded = ChoiceEncoder(encoding_).Encode({"", "ab"});
  ASSERT_TRUE(encoded.ok());
  EXPECT_EQ(encoded.value().sequences[0].tokens, (std::vector<int32_t>{256, 'a', 'b'}));
  EXPECT_EQ(encoded.value().sequences[0].scored, 2);
}

TEST_F(ChoiceEncodingTest, ALongQueryLosesItsBeginning) {
  encoding_.context = 8;
  const auto fits = ChoiceEncoder(encoding_).Encode({"abcde", "xyz"});
  EXPECT_EQ(fits.value().fit, Fit::kWhole);
  EXPECT_EQ(Join("abcde", "xyz"), Pair("abcde", " xyz"));
  const auto cut = ChoiceEncoder(encoding_).Encode({"abcdef", "xyz"});
  EXPECT_EQ(cut.value().fit, Fit::kCut);
  EXPECT_EQ(Join("abcdef", "xyz"), Pair("bcdef", " xyz"));
  // As long a choice as goes: one token is left to predict it from.
  EXPECT_EQ(Join("abcdef", "1234567"), Pair("f", " 1234567"));
}

TEST_F(ChoiceEncodingTest, ALongChoiceIsScoredInWindows) {
  encoding_.context = 8;
  const std::string choice = "0123456789abcdefg";
  const auto encoded = ChoiceEncoder(encoding_).Encode({"query", choice});
  ASSERT_TRUE(encoded.ok());
  EXPECT_EQ(encoded.value().fit, Fit::kWindows);
  std::string scored;
  for (const ScoredSequence& sequence : encoded.value().sequences) {
    const auto count = static_cast<int64_t>(sequence.tokens.size());
    EXPECT_LE(count - 1, 8);
    EXPECT_GE(count - sequence.scored, 4);
    const auto middle = sequence.tokens.end() - sequence.scored;
    scored += Decode(*bytes_, {middle, sequence.tokens.end()});
  }
  EXPECT_EQ(scored, " " + choice);
}

}  // namespace
}  // namespace sinkforge::trainer
