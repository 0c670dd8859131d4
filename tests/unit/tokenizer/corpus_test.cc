// Files to documents to ids to shards: what is read, what is refused by its line, and that ids do
// not depend on the threads.
#include "tokenizer/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/unit/tokenizer/test_support.h"
#include "tokenizer/encode_corpus.h"
#include "tokenizer/output_folder.h"
#include "tokenizer/shard_writer.h"

namespace sinkforge::tokenizer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

class CorpusTest : public testing::Test {
 protected:
  CorpusTest() {
    std::string name = (fs::temp_directory_path() / "sinkforge-corpus-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~CorpusTest() override { fs::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }

  absl::Status Run(const Tokenizer& tokenizer, const std::vector<std::string>& paths, int threads,
                   std::vector<int32_t>* ids) {
    const auto files = OpenCorpus(paths);
    if (!files.ok()) return files.status();
    CorpusSink sink;
    sink.append = [&](std::span<const int32_t> more) {
      ids->insert(ids->end(), more.begin(), more.end());
      return absl::OkStatus();
    };
    sink.show = [&](const CorpusProgress& progress) { progress_ = progress; };
    const auto done = EncodeCorpus(tokenizer, *files, {threads, *tokenizer.bos_id()}, sink);
    return done.status();
  }

  std::string Refusal(const std::string& path) {
    std::vector<int32_t> ids;
    const absl::Status status = Run(*bytes_, {path}, 2, &ids);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }

  fs::path folder_;
  CorpusProgress progress_;
  const std::unique_ptr<const Tokenizer> bytes_ = Load("bytes");
};

TEST_F(CorpusTest, EveryDocumentBeginsWithBos) {
  const std::string text = Write("a.txt", "ab");
  const std::string lines = Write("b.jsonl",
                                  "{\"text\": \"c\\n\", \"id\": 1}\n\n  \r\n"
                                  "{\"id\": 2, \"text\": \"\"}\r\n{\"text\": \"d\"}");
  std::vector<int32_t> ids;
  ASSERT_TRUE(Run(*bytes_, {text, lines}, 2, &ids).ok());
  EXPECT_THAT(ids, ElementsAre(256, 'a', 'b', 256, 'c', '\n', 256, 256, 'd'));
  EXPECT_EQ(progress_.documents, 4);
  EXPECT_EQ(progress_.tokens, 9);
  EXPECT_EQ(progress_.bytes_done, progress_.bytes_total);
}

TEST_F(CorpusTest, AByteOrderMarkIsNoText) {
  const std::string mark = "\xEF\xBB\xBF";
  const std::string text = Write("a.txt", mark + "a" + mark);
  const std::string lines = Write("b.jsonl", mark + "{\"text\": \"b\"}\n{\"text\": \"c\"}");
  std::vector<int32_t> ids;
  ASSERT_TRUE(Run(*bytes_, {text, lines, Write("c.jsonl", mark)}, 2, &ids).ok());
  EXPECT_THAT(ids, ElementsAre(256, 'a', 0xEF, 0xBB, 0xBF, 256, 'b', 256, 'c'));
  EXPECT_THAT(Refusal(Write("d.jsonl", "{\"text\": \"b\"}\n" + mark + "{}")),
              HasSubstr("d.jsonl:2: not a JSON document"));
}

TEST_F(CorpusTest, WhatIsWrongIsNamedByItsLine) {
  EXPECT_THAT(Refusal(Write("a.txt", "ab\ncd\nx\xFFy")), HasSubstr("a.txt:3: byte 2 of the line"));
  EXPECT_THAT(Refusal(Write("b.jsonl", "{\"text\": \"a\"}\n\n{\"text\": ")),
              HasSubstr("b.jsonl:3: not a JSON document"));
  EXPECT_THAT(Refusal(Write("c.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xC3(\"}\n")),
              HasSubstr("c.jsonl:2: byte 11 of the line is not UTF-8"));
  EXPECT_THAT(Refusal(Write("d.jsonl", "{\"body\": 1}")),
              HasSubstr("d.jsonl:1: the object has no"));
  EXPECT_THAT(Refusal(Write("e.jsonl", "{\"text\": 1}")),
              HasSubstr("e.jsonl:1: its `text` is not"));
  EXPECT_THAT(Refusal(Write("f.jsonl", "[]")), HasSubstr("f.jsonl:1: not a JSON object"));
  EXPECT_THAT(Refusal(Write("g.jsonl", "{\"text\": \"\\ud800\"}")), HasSubstr("g.jsonl:1:"));
  EXPECT_THAT(Refusal(Write("h.csv", "a")), HasSubstr(".jsonl"));
  EXPECT_THAT(Refusal(Write("h.csv", "a")), HasSubstr("h.csv"));
}

TEST_F(CorpusTest, LineNumbersCountOverBlocksAndBeginAnewInEachFile) {
  std::string many;
  for (int i = 0; i < 60'000; ++i) many += "{\"text\": \"a line of some length or other\"}\n";
  const std::string good = Write("good.jsonl", many);
  const std::string bad = Write("bad.jsonl", many + "{\n");
  std::vector<int32_t> ids;
  const absl::Status status = Run(*bytes_, {good, bad}, 3, &ids);
  EXPECT_THAT(std::string(status.message()), HasSubstr("bad.jsonl:60001: not a JSON document"));
}

TEST_F(CorpusTest, ALineMayBeLongerThanABlock) {
  const std::string path = Write("a.jsonl", "{\"text\": \"" + std::string(3 << 20, 'a') +
                                                "\"}\n"
                                                "{\"text\": \"b\"}");
  std::vector<int32_t> ids;
  ASSERT_TRUE(Run(*bytes_, {path}, 2, &ids).ok());
  EXPECT_EQ(ids.size(), (3U << 20) + 3);
}

TEST_F(CorpusTest, AFileThatIsNotThereIsNamed) {
  std::vector<int32_t> ids;
  const absl::Status status = Run(*bytes_, {folder_ / "no.txt"}, 1, &ids);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no.txt"));
}

// A long document is cut into ranges of a megabyte; here each begins in the middle of something.
TEST_F(CorpusTest, IdsDoNotDependOnRangesAndThreads) {
  std::string mixed;
  std::istringstream cases(ReadText(GoldenPath("cases.jsonl")));
  for (std::string line; std::getline(cases, line);) {
    mixed += nlohmann::json::parse(line)["text"].get<std::string>();
  }
  while (mixed.size() < (1U << 20)) mixed += mixed;
  // One piece of more than two ranges.
  const std::string text = mixed + " " + std::string(2'200'000, 'y') + mixed;
  const std::string path = Write("long.txt", text);
  for (const char* family : {"gpt2", "llama3", "qwen"}) {
    const auto tokenizer = Load(GoldenPath(std::string(family) + ".json"));
    std::vector<int32_t> expected = Encode(*tokenizer, text);
    expected.insert(expected.begin(), *tokenizer->bos_id());
    for (const int threads : {1, 3}) {
      std::vector<int32_t> ids;
      ASSERT_TRUE(Run(*tokenizer, {path}, threads, &ids).ok());
      ASSERT_TRUE(ids == expected) << family << " with " << threads << " threads";
    }
  }
}

TEST_F(CorpusTest, TheSinksErrorEndsTheWork) {
  const auto files = OpenCorpus({Write("a.txt", "ab")});
  ASSERT_TRUE(files.ok());
  CorpusSink sink;
  sink.append = [](std::span<const int32_t>) { return absl::ResourceExhaustedError("full"); };
  sink.show = [](const CorpusProgress&) {};
  EXPECT_EQ(EncodeCorpus(*bytes_, *files, {2, 256}, sink).status().message(), "full");
}

TEST_F(CorpusTest, ShardsHaveTheirHeaderTokensAndSidecar) {
  ShardWriter writer(*bytes_, {folder_, 4, 256});
  const std::vector<int32_t> ids = {256, 'a', 'b', 'c', 'd', 'e'};
  ASSERT_TRUE(writer.Append(ids).ok());
  ASSERT_TRUE(writer.Finish().ok());
  EXPECT_EQ(writer.shards(), 2);
  const std::string shard = ReadText(folder_ / "shard-00001.bin");
  int32_t header[3];
  std::memcpy(header, shard.data(), sizeof(header));
  EXPECT_THAT(header, ElementsAre(20240520, 1, 2));
  EXPECT_EQ(shard.substr(1024), std::string("d\0e\0", 4));
  EXPECT_EQ(ReadText(folder_ / "shard-00000.bin").size(), 1024U + 8);
  const auto sidecar = nlohmann::json::parse(ReadText(folder_ / "shard-00001.json"));
  EXPECT_EQ(sidecar["vocab_size"], 257);
  EXPECT_EQ(sidecar["bos_id"], 256);
  EXPECT_EQ(sidecar["tokenizer"], "bytes");
  EXPECT_EQ(sidecar["bytes_per_token"].size(), 257U);
  EXPECT_EQ(sidecar["bytes_per_token"][256], 0);
}

const OwnsName kAnyName = [](const std::string&) { return true; };

TEST_F(CorpusTest, AFolderAppearsWholeOrNotAtAll) {
  const std::string path = folder_ / "out/";
  {
    auto abandoned = OutputFolder::Create(path, ExistingFolder::kRefuse, kAnyName);
    ASSERT_TRUE(abandoned.ok()) << abandoned.status();
    const auto second = OutputFolder::Create(path, ExistingFolder::kRefuse, kAnyName);
    EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_TRUE(fs::is_empty(folder_));
  // What a killed program leaves.
  fs::create_directory(folder_ / "out.partial");
  Write("out.partial/old", "x");
  {
    auto folder = OutputFolder::Create(path, ExistingFolder::kRefuse, kAnyName);
    ASSERT_TRUE(folder.ok()) << folder.status();
    EXPECT_TRUE(fs::is_empty((*folder)->partial_path()));
    Write("out.partial/new", "y");
    ASSERT_TRUE((*folder)->Commit().ok());
  }
  EXPECT_EQ(ReadText(folder_ / "out/new"), "y");
  EXPECT_FALSE(fs::exists(folder_ / "out.partial"));
  EXPECT_EQ(OutputFolder::Create(path, ExistingFolder::kRefuse, kAnyName).status().code(),
            absl::StatusCode::kAlreadyExists);
  {
    auto folder = OutputFolder::Create(path, ExistingFolder::kReplace, kAnyName);
    ASSERT_TRUE(folder.ok()) << folder.status();
    Write("out.partial/newer", "z");
    ASSERT_TRUE((*folder)->Commit().ok());
  }
  EXPECT_FALSE(fs::exists(folder_ / "out/new"));
  EXPECT_EQ(ReadText(folder_ / "out/newer"), "z");
  EXPECT_FALSE(fs::exists(folder_ / "out.partial"));
}

TEST_F(CorpusTest, TheFoldersAboveAreMade) {
  const auto folder = OutputFolder::Create(folder_ / "a/b/out/", ExistingFolder::kRefuse, kAnyName);
  ASSERT_TRUE(folder.ok()) << folder.status();
  ASSERT_TRUE((*folder)->Commit().ok());
  EXPECT_TRUE(fs::is_directory(folder_ / "a/b/out"));
  Write("plain", "x");
  const absl::Status under_file =
      OutputFolder::Create(folder_ / "plain/out", ExistingFolder::kRefuse, kAnyName).status();
  EXPECT_FALSE(under_file.ok());
  EXPECT_THAT(std::string(under_file.message()), testing::Not(HasSubstr(".partial")));
}

TEST_F(CorpusTest, WhatSomebodyElsePutInAFolderIsNotRemoved) {
  const OwnsName owns_shards = [](const std::string& name) { return name.rfind("shard-", 0) == 0; };
  const auto create = [&](const char* name, ExistingFolder existing) {
    return OutputFolder::Create(folder_ / name, existing, owns_shards).status();
  };
  const auto refused = [](const absl::Status& status, const std::string& what) {
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
    EXPECT_NE(status.message().find(what), std::string::npos) << status;
  };
  fs::create_directories(folder_ / "out/shard-folder");
  Write("out/shard-00000.bin", "x");
  refused(create("out", ExistingFolder::kReplace), "shard-folder");
  fs::remove(folder_ / "out/shard-folder");
  Write("out/thesis.txt", "y");
  refused(create("out", ExistingFolder::kReplace), "thesis.txt");
  EXPECT_EQ(ReadText(folder_ / "out/thesis.txt"), "y");
  fs::create_directories(folder_ / "mine.partial");
  Write("mine.partial/p.txt", "z");
  refused(create("mine", ExistingFolder::kRefuse), "p.txt");
  EXPECT_EQ(ReadText(folder_ / "mine.partial/p.txt"), "z");
  fs::remove(folder_ / "out/thesis.txt");
  fs::create_symlink(folder_ / "mine.partial/p.txt", folder_ / "out/shard-00001.bin");
  refused(create("out", ExistingFolder::kReplace), "shard-00001.bin");
  fs::remove(folder_ / "out/shard-00001.bin");
  EXPECT_TRUE(create("out", ExistingFolder::kReplace).ok());
}

}  // namespace
}  // namespace sinkforge::tokenizer
