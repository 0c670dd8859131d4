// Texts to evaluate on: each kind of file is the same stream of tokens however it is read, and what
// is no text of the model is named.
#include "worker/trainer/evaluation_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/unit/tokenizer/test_support.h"
#include "tests/unit/trainer/temp_folder.h"
#include "tokenizer/byte_tokenizer.h"
#include "tokenizer/shard_writer.h"

namespace sinkforge::trainer {
namespace {

using kernels::StatusCode;
using testing::HasSubstr;

constexpr int32_t kGpt2Bos = 0;

// A model's side of things, without weights.
struct Side {
  ExportedModel model;
  ModelTokenizer tokenizer;
  TextReader reader() const { return {&model, &tokenizer, 2}; }
};

Side Gpt2Side() {
  Side side;
  side.tokenizer.name = tokenizer::GoldenPath("gpt2.json");
  side.tokenizer.tokenizer = tokenizer::Load(side.tokenizer.name);
  side.tokenizer.bos = kGpt2Bos;
  side.model.config.vocab_size = side.tokenizer.tokenizer->vocab_size();
  side.model.tokenizer = side.tokenizer.tokenizer->fingerprint();
  return side;
}

Side BytesSide() {
  Side side;
  side.tokenizer.name = tokenizer::kBytesName;
  side.tokenizer.tokenizer = tokenizer::MakeByteTokenizer();
  side.model.config.vocab_size = 256;
  return side;
}

void WriteShards(const tokenizer::Tokenizer& tokenizer, const std::string& folder,
                 const std::vector<int32_t>& ids) {
  std::filesystem::create_directories(folder);
  tokenizer::ShardWriter writer(tokenizer, {folder, 7, kGpt2Bos});
  ASSERT_TRUE(writer.Append(ids).ok());
  ASSERT_TRUE(writer.Finish().ok());
}

constexpr char kText[] = "The head that sinks.\nAnother head, and a gate for it.\n";

// A kind of text: writes it into a folder and returns what names it.
struct Kind {
  std::string name;
  Side (*side)();
  std::function<std::string(const TempFolder&, const Side&)> write;
  std::vector<int32_t> (*ids)(const Side&);
};

std::vector<int32_t> Document(const Side& side) {
  std::vector<int32_t> ids = tokenizer::Encode(*side.tokenizer.tokenizer, kText);
  if (side.tokenizer.bos.has_value()) ids.insert(ids.begin(), *side.tokenizer.bos);
  return ids;
}

std::vector<Kind> Kinds() {
  const auto text = [](const TempFolder& folder, const Side&) {
    return folder.Write("text.txt", kText);
  };
  const auto lines = [](const TempFolder& folder, const Side&) {
    return folder.Write("text.jsonl",
                        R"({"text": "The head that sinks.\nAnother head, and a gate for it.\n"})");
  };
  const auto shards = [](const TempFolder& folder, const Side& side) {
    WriteShards(*side.tokenizer.tokenizer, folder / "shards", Document(side));
    return folder / "shards";
  };
  return {{"Bytes", BytesSide, text, Document},
          {"EncodedText", Gpt2Side, text, Document},
          {"EncodedLines", Gpt2Side, lines, Document},
          {"Shards", Gpt2Side, shards, Document}};
}

class TokenStreamTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    side_ = GetParam().side();
    auto opened = OpenEvaluationText(GetParam().write(folder_, side_), side_.reader());
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    text_ = std::move(opened).value();
  }
  std::vector<int32_t> Read(int64_t first, int64_t count) const {
    std::vector<int32_t> ids(static_cast<size_t>(count));
    text_->ReadTokens(first, count, ids.data());
    return ids;
  }

  TempFolder folder_;
  Side side_;
  std::unique_ptr<TokenStream> text_;
};

TEST_P(TokenStreamTest, IsTheTextsTokensAtEveryPosition) {
  const std::vector<int32_t> ids = GetParam().ids(side_);
  ASSERT_EQ(text_->tokens(), static_cast<int64_t>(ids.size()));
  for (int64_t first = 0; first < text_->tokens(); ++first) {
    const std::vector<int32_t> rest(ids.begin() + first, ids.end());
    EXPECT_EQ(Read(first, text_->tokens() - first), rest);
    EXPECT_EQ(Read(first, 1), std::vector<int32_t>{ids[static_cast<size_t>(first)]});
  }
}

TEST_P(TokenStreamTest, KnowsTheTextsBytes) {
  int64_t bytes = 0;
  for (const int32_t id : Read(0, text_->tokens())) bytes += text_->TokenBytes(id).value_or(-1);
  EXPECT_EQ(bytes, static_cast<int64_t>(sizeof(kText)) - 1);
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenStreamTest, testing::ValuesIn(Kinds()),
                         [](const auto& instance) { return instance.param.name; });

class EvaluationTextTest : public testing::Test {
 protected:
  void ExpectRefused(const Side& side, const std::string& path, const std::string& message) {
    const auto opened = OpenEvaluationText(path, side.reader());
    ASSERT_FALSE(opened.ok()) << message;
    EXPECT_THAT(opened.status().message(), HasSubstr(message));
  }
  TempFolder folder_;
};

TEST_F(EvaluationTextTest, WhatIsNoTextIsNamed) {
  const Side gpt2 = Gpt2Side();
  EXPECT_EQ(OpenEvaluationText(folder_ / "none.txt", gpt2.reader()).status().code(),
            StatusCode::kNotFound);
  ExpectRefused(gpt2, folder_.Write("a.csv", "text"), "a.csv: its name ends neither in .txt");
  ExpectRefused(gpt2, folder_.Write("a.txt", "a\n\xC3("), "a.txt:2: byte 1 of the line is not");
  ExpectRefused(gpt2, folder_.Write("b.txt", ""), "b.txt: holds no text");
  ExpectRefused(gpt2, folder_.Write("c.jsonl", "{}\n"), "c.jsonl:1: the object has no key `text`");
  ExpectRefused(gpt2, folder_.path().string(), "holds no .bin token shards");
  ExpectRefused(gpt2, folder_.Write("d.bin", "short"), "d.bin");
  const Side bytes = BytesSide();
  ExpectRefused(bytes, folder_.Write("e.txt", "a"), "e.txt: 1 tokens are fewer");
  ExpectRefused(bytes, folder_ / "c.jsonl", "has no token that begins a document for this model");
}

TEST_F(EvaluationTextTest, ShardsOfAnotherTokenizerAreRefused) {
  const Side gpt2 = Gpt2Side();
  const auto bytes = tokenizer::MakeByteTokenizer();
  WriteShards(*bytes, folder_ / "shards", {256, 'a', 'b'});
  ExpectRefused(gpt2, folder_ / "shards", "made with another tokenizer than the model");
}

}  // namespace
}  // namespace sinkforge::trainer
