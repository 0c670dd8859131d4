// Training: small cases by hand; tests/fuzz/tokenizer_training.py compares with the `tokenizers`
// package.
#include "tokenizer/bpe_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/unit/tokenizer/test_support.h"
#include "tokenizer/bpe_tokenizer.h"

namespace sinkforge::tokenizer {
namespace {

using testing::HasSubstr;

TrainingOptions Options(int64_t vocab_size) {
  TrainingOptions options;
  options.vocab_size = vocab_size;
  return options;
}

std::vector<std::string> NewTokens(const PieceCounts& pieces, int64_t vocab_size) {
  const auto bpe = TrainBpe(pieces, Options(vocab_size), [](int64_t) {});
  EXPECT_TRUE(bpe.ok()) << bpe.status();
  return {bpe->tokens.begin() + 257, bpe->tokens.end()};
}

TEST(TrainBpeTest, TheMostFrequentPairComesFirst) {
  EXPECT_THAT(NewTokens({{"abab", 3}, {"bc", 4}}, 260), testing::ElementsAre("ab", "bc", "abab"));
}

TEST(TrainBpeTest, OfEqualsThePairOfLowerIdsComesFirst) {
  EXPECT_THAT(NewTokens({{"cd", 2}, {"ab", 2}}, 258), testing::ElementsAre("ab"));
}

TEST(TrainBpeTest, APairThatOverlapsItselfIsMergedFromTheLeft) {
  // Then aa aa a: each of the two pairs is there once, and (aa, a) has the lower ids.
  EXPECT_THAT(NewTokens({{"aaaaa", 1}}, 259), testing::ElementsAre("aa", "aaa"));
}

TEST(TrainBpeTest, EndsWhereNoPairIsLeft) {
  EXPECT_THAT(NewTokens({{"abc", 1}}, 1000), testing::ElementsAre("ab", "abc"));
}

TEST(TrainBpeTest, AVocabularyWithoutRoomIsRefused) {
  const auto bpe = TrainBpe({}, Options(256), [](int64_t) {});
  EXPECT_THAT(std::string(bpe.status().message()), HasSubstr("at least 257"));
  TrainingOptions twice = Options(1000);
  twice.special_tokens = {"<|a|>", "<|a|>"};
  EXPECT_THAT(std::string(TrainBpe({}, twice, [](int64_t) {}).status().message()),
              HasSubstr("there twice"));
}

class TrainedFileTest : public testing::TestWithParam<PatternFamily> {
 protected:
  TrainedFileTest() {
    std::string name = (std::filesystem::temp_directory_path() / "sinkforge-bpe-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~TrainedFileTest() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

// From the cases' texts, as lines of a .jsonl file and as one .txt file.
TEST_P(TrainedFileTest, IsReadBackAndEncodesWhatItWasTrainedOn) {
  std::string lines;
  std::string text;
  std::istringstream cases(ReadText(GoldenPath("cases.jsonl")));
  for (std::string line; std::getline(cases, line);) {
    const auto content = nlohmann::json::parse(line)["text"].get<std::string>();
    lines += nlohmann::json{{"text", content}}.dump() + "\n";
    text += content + "\n";
  }
  std::ofstream(folder_ / "a.jsonl") << lines;
  std::ofstream(folder_ / "b.txt") << text;
  TrainingOptions options = Options(800);
  options.family = GetParam();
  options.special_tokens = {"<|bos|>", "<|user|>"};
  std::string one_thread;
  for (const int threads : {1, 3}) {
    options.threads = threads;
    const auto files = OpenCorpus({folder_ / "a.jsonl", folder_ / "b.txt"});
    ASSERT_TRUE(files.ok()) << files.status();
    const auto pieces = CountPieces(*files, options, [](int64_t) {});
    ASSERT_TRUE(pieces.ok()) << pieces.status();
    const auto bpe = TrainBpe(*pieces, options, [](int64_t) {});
    ASSERT_TRUE(bpe.ok()) << bpe.status();
    const std::string file = FormatTokenizerFile(*bpe, options);
    if (threads == 1) one_thread = file;
    EXPECT_EQ(file, one_thread);
  }
  auto file = ParseTokenizerFile(one_thread);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto tokenizer = MakeBpeTokenizer(*std::move(file));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 800);
  EXPECT_EQ((*tokenizer)->bos_id(), 0);
  const std::string sample = "the LORD God, and don't 1234 <|user|>\n";
  EXPECT_EQ(Decode(**tokenizer, Encode(**tokenizer, sample)), sample);
  EXPECT_LT(Encode(**tokenizer, sample).size(), sample.size());
}

INSTANTIATE_TEST_SUITE_P(Families, TrainedFileTest,
                         testing::Values(PatternFamily::kGpt2, PatternFamily::kLlama3,
                                         PatternFamily::kQwen));

}  // namespace
}  // namespace sinkforge::tokenizer
