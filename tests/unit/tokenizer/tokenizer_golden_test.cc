// The ids that the `tokenizers` package gives; data/ is made by tests/golden/tokenizer/generate.py.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/tokenizer/test_support.h"

namespace sinkforge::tokenizer {
namespace {

class TokenizerGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGoldenTest, GivesTheIdsAndTextsOfTheReference) {
  const std::string family = GetParam();
  const auto tokenizer = Load(GoldenPath(family + ".json"));
  std::istringstream lines(ReadText(GoldenPath("cases.jsonl")));
  int cases = 0;
  for (std::string line; std::getline(lines, line); ++cases) {
    const nlohmann::json item = nlohmann::json::parse(line);
    const auto text = item["text"].get<std::string>();
    const auto ids = item[family].get<std::vector<int32_t>>();
    ASSERT_EQ(Encode(*tokenizer, text), ids) << item["text"];
    // The package reads the letters of an added token as bytes where its alphabet has them all,
    // and puts U+FFFD for bytes that are no character; here such a token is its own text.
    const std::string decoded = item.value(family + "_text", text);
    const auto has_replacement = [](const std::string& where) {
      return where.find("\xEF\xBF\xBD") != std::string::npos;
    };
    if (has_replacement(decoded) && !has_replacement(text)) continue;
    ASSERT_EQ(Decode(*tokenizer, ids), decoded) << item["text"];
  }
  EXPECT_EQ(cases, 500);
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerGoldenTest, testing::Values("gpt2", "llama3", "qwen"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace sinkforge::tokenizer
