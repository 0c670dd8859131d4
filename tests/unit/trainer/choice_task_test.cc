// Files of multiple-choice items: every form of an item, and everything that is none.
#include "worker/trainer/choice_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/trainer/temp_folder.h"

namespace sinkforge::trainer {
namespace {

using kernels::StatusCode;
using testing::HasSubstr;
using testing::SizeIs;

class ChoiceTaskTest : public testing::Test {
 protected:
  kernels::Result<std::vector<ChoiceItem>> Read(const std::string& content,
                                                std::optional<int64_t> items_max = std::nullopt) {
    return ReadChoiceTask(folder_.Write("task.jsonl", content), items_max);
  }
  // On the second line, after one that is right.
  void ExpectRefused(const std::string& line, const std::string& message) {
    const auto items = Read(std::string(kGood) + line + "\n");
    ASSERT_FALSE(items.ok()) << line;
    EXPECT_EQ(items.status().code(), StatusCode::kInvalidData);
    EXPECT_THAT(items.status().message(), HasSubstr("task.jsonl:2: " + message));
  }

  static constexpr char kGood[] = R"({"query": "q", "choices": ["a", "b"], "gold": 1})"
                                  "\n";
  TempFolder folder_;
};

TEST_F(ChoiceTaskTest, ReadsEveryForm) {
  const auto items = Read(
      "\xEF\xBB\xBF"
      R"({"query": "The sky is", "choices": ["blue", "a goat", "9"], "gold": 2, "id": 7})"
      "\r\n\n"
      R"({"context_options": ["Ann thanked Bea: Ann", "Ann thanked Bea: Bea"],)"
      R"( "continuation": "had helped.", "gold": 1})"
      "\n"
      R"({"ind": 4, "ctx": "A man", "endings": ["sits", "é"], "label": "1"})");
  ASSERT_TRUE(items.ok()) << items.status().message();
  ASSERT_THAT(items.value(), SizeIs(3));
  const ChoiceItem& choices = items.value()[0];
  EXPECT_EQ(choices.line, 1);
  EXPECT_EQ(choices.gold, 2);
  ASSERT_THAT(choices.options, SizeIs(3));
  EXPECT_EQ(choices.options[1].context, "The sky is");
  EXPECT_EQ(choices.options[1].continuation, "a goat");
  const ChoiceItem& schema = items.value()[1];
  EXPECT_EQ(schema.line, 3);
  EXPECT_EQ(schema.options[0].context, "Ann thanked Bea: Ann");
  EXPECT_EQ(schema.options[1].context, "Ann thanked Bea: Bea");
  EXPECT_EQ(schema.options[1].continuation, "had helped.");
  const ChoiceItem& hellaswag = items.value()[2];
  EXPECT_EQ(hellaswag.gold, 1);
  EXPECT_EQ(hellaswag.options[1].context, "A man");
  EXPECT_EQ(hellaswag.options[1].continuation, "é");
}

TEST_F(ChoiceTaskTest, ALimitEndsTheReading) {
  const auto items = Read(std::string(kGood) + kGood + "nonsense\n", 2);
  ASSERT_TRUE(items.ok());
  EXPECT_THAT(items.value(), SizeIs(2));
  EXPECT_FALSE(Read(std::string(kGood) + kGood + "nonsense\n", 3).ok());
}

TEST_F(ChoiceTaskTest, ABadLineIsNamed) {
  ExpectRefused(R"({"query": )", "not a JSON document");
  ExpectRefused("[1]", "not a JSON object");
  ExpectRefused("{\"query\": \"\xC3\x28\"}", "byte 12 of the line is not UTF-8");
  ExpectRefused(R"({"query": "q", "gold": 0})", "has none of the keys");
  ExpectRefused(R"({"choices": ["a", "b"], "gold": 0})", "has no `query`");
  ExpectRefused(R"({"query": 1, "choices": ["a", "b"], "gold": 0})", "its `query` is not");
  ExpectRefused(R"({"query": "q", "choices": "ab", "gold": 0})", "its `choices` is not a list");
  ExpectRefused(R"({"query": "q", "choices": ["a", 2], "gold": 0})", "its `choices` is not a list");
  ExpectRefused(R"({"query": "q", "choices": ["a"], "gold": 0})", "its `choices` has 1 entry;");
  ExpectRefused(R"({"query": "q", "choices": [], "gold": 0})", "its `choices` has 0 entries;");
  ExpectRefused(R"({"query": "q", "choices": ["a", ""], "gold": 0})", "one of its `choices` is");
  ExpectRefused(R"({"query": "q", "choices": ["a", "b"]})", "has no `gold`");
  for (const char* gold : {"2", "-1", "\"2\""}) {
    ExpectRefused(std::string(R"({"query": "q", "choices": ["a", "b"], "gold": )") + gold + "}",
                  "its `gold` is ");
  }
  for (const char* gold : {"0.5", "null", "\"a\"", "true"}) {
    ExpectRefused(std::string(R"({"query": "q", "choices": ["a", "b"], "gold": )") + gold + "}",
                  "its `gold` is not a number from 0 to 1");
  }
  ExpectRefused(R"({"context_options": ["a", "b"], "gold": 0})", "has no `continuation`");
  ExpectRefused(R"({"context_options": ["a", "b"], "continuation": "", "gold": 0})",
                "its `continuation` is empty");
  ExpectRefused(R"({"endings": ["a", "b"], "label": 0})", "has no `ctx`");
  ExpectRefused(R"({"ctx": "c", "endings": ["a", "b"], "label": ""})", "its `label` is not");
  ExpectRefused(R"({"query": ")" + std::string(1 << 20, 'x') + R"("})", "the line is longer than");
}

TEST_F(ChoiceTaskTest, AFileWithoutItemsIsNamed) {
  EXPECT_THAT(Read("").status().message(), HasSubstr("task.jsonl: holds no items"));
  EXPECT_THAT(Read("\n \r\n").status().message(), HasSubstr("holds no items"));
  const auto missing = ReadChoiceTask(folder_ / "none.jsonl", std::nullopt);
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr("none.jsonl: there is no such file"));
  const auto folder = ReadChoiceTask(folder_.path().string(), std::nullopt);
  EXPECT_THAT(folder.status().message(), HasSubstr("is a folder"));
}

}  // namespace
}  // namespace sinkforge::trainer
