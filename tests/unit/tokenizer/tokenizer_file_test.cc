// What a tokenizer.json may hold: every feature that would change ids and is not known is refused
// by name.
#include "tokenizer/tokenizer_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/tokenizer/test_support.h"
#include "tokenizer/bpe_tokenizer.h"

namespace sinkforge::tokenizer {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

class TokenizerFileTest : public testing::Test {
 protected:
  Json json_ = Json::parse(ReadText(GoldenPath("llama3.json")));

  std::string Refusal() const {
    const auto file = ParseTokenizerFile(json_.dump());
    absl::Status status = file.status();
    if (file.ok()) status = MakeBpeTokenizer(*file).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }
};

struct Change {
  const char* pointer;
  Json value;
  const char* named;  // in the message
};

TEST_F(TokenizerFileTest, UnsupportedFeaturesAreRefusedByName) {
  const Change changes[] = {
      {"/model/type", "WordPiece", "model `WordPiece`"},
      {"/model/dropout", 0.1, "model.dropout"},
      {"/model/unk_token", "<unk>", "model.unk_token"},
      {"/model/byte_fallback", true, "model.byte_fallback"},
      {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix"},
      {"/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix"},
      {"/normalizer", Json{{"type", "Lowercase"}}, "normalizer `Lowercase`"},
      {"/pre_tokenizer", Json{{"type", "Metaspace"}}, "pre_tokenizer `Metaspace`"},
      {"/pre_tokenizer", nullptr, "pre_tokenizer `none`"},
      {"/pre_tokenizer/pretokenizers/0/type", "Digits", "pre_tokenizer `Sequence`"},
      {"/pre_tokenizer/pretokenizers/0/behavior", "Removed", "Split with behavior `Removed`"},
      {"/pre_tokenizer/pretokenizers/0/invert", true, "inverted"},
      {"/pre_tokenizer/pretokenizers/0/pattern", Json{{"String", " "}}, "no Regex"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "a(b)+", "`)+`"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "a(", "regular expression"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", " ?", "empty text"},
      {"/pre_tokenizer/pretokenizers/1/use_regex", true, "use_regex"},
      {"/truncation", Json{{"max_length", 5}}, "`truncation`"},
      {"/padding", Json{{"length", 5}}, "`padding`"},
  };
  const Json whole = json_;
  for (const Change& change : changes) {
    json_ = whole;
    json_[Json::json_pointer(change.pointer)] = change.value;
    const std::string message = Refusal();
    EXPECT_THAT(message, HasSubstr(change.named)) << change.pointer;
  }
}

TEST_F(TokenizerFileTest, ContradictionsAreRefusedByName) {
  const Json whole = json_;
  json_["model"]["vocab"]["a"] = json_["model"]["vocab"]["b"];
  EXPECT_THAT(Refusal(), HasSubstr("have one id"));
  json_ = whole;
  json_["model"]["vocab"]["a"] = -1;
  EXPECT_THAT(Refusal(), HasSubstr("`a` has no possible id"));
  json_ = whole;
  json_["model"]["merges"][3] = "abc";
  EXPECT_THAT(Refusal(), HasSubstr("model.merges[3] is not a pair"));
  json_ = whole;
  json_["model"]["merges"][3] = {"q", "q"};
  EXPECT_THAT(Refusal(), HasSubstr("`qq` is not in model.vocab"));
  json_ = whole;
  json_["added_tokens"][0]["id"] = 5;
  EXPECT_THAT(Refusal(), HasSubstr("model.vocab says otherwise"));
  json_ = whole;
  json_["model"]["vocab"].erase("a");
  json_["model"]["merges"] = Json::array();
  EXPECT_THAT(Refusal(), HasSubstr("no token for byte 97"));
  json_ = "text";
  EXPECT_THAT(Refusal(), HasSubstr("not a tokenizer.json"));
}

TEST_F(TokenizerFileTest, WhatIsNotJsonIsRefused) {
  for (const char* text : {"", "{", "\xFF"}) {
    EXPECT_THAT(std::string(ParseTokenizerFile(text).status().message()), HasSubstr("not JSON"));
  }
}

TEST_F(TokenizerFileTest, MergesAreReadInBothForms) {
  const auto pairs = ParseTokenizerFile(json_.dump());
  ASSERT_TRUE(pairs.ok()) << pairs.status();
  for (Json& merge : json_["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const auto texts = ParseTokenizerFile(json_.dump());
  ASSERT_TRUE(texts.ok()) << texts.status();
  ASSERT_EQ(texts->merges.size(), pairs->merges.size());
  for (size_t i = 0; i < texts->merges.size(); ++i) {
    EXPECT_EQ(texts->merges[i].merged, pairs->merges[i].merged);
  }
}

TEST_F(TokenizerFileTest, TheBeginningTokenIsThatOfTheTemplateElseOneByItsName) {
  json_["post_processor"]["single"][0]["SpecialToken"]["id"] = "<|user|>";
  auto file = ParseTokenizerFile(json_.dump());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->bos_id, file->vocab["<|user|>"]);
  json_["post_processor"] = nullptr;
  file = ParseTokenizerFile(json_.dump());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->bos_id, file->vocab["<|bos|>"]);
}

TEST_F(TokenizerFileTest, ASpaceIsPutBeforeTextWhereTheFileSaysSo) {
  json_["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  auto file = ParseTokenizerFile(json_.dump());
  ASSERT_TRUE(file.ok()) << file.status();
  const auto tokenizer = MakeBpeTokenizer(*std::move(file));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(Decode(**tokenizer, Encode(**tokenizer, "and<|user|>and")), " and<|user|> and");
  EXPECT_EQ(Decode(**tokenizer, Encode(**tokenizer, " and")), " and");
}

TEST(LoadTokenizerTest, NamesTheFileAndTheNextStep) {
  const auto missing = LoadTokenizer("/no/such/tokenizer.json");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("/no/such/tokenizer.json"));
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("give `bytes`"));
  const auto wrong = LoadTokenizer(GoldenPath("cases.jsonl"));
  EXPECT_EQ(wrong.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(wrong.status().message()), HasSubstr("cases.jsonl"));
}

}  // namespace
}  // namespace sinkforge::tokenizer
