// Data files: what the patterns find, what is refused, and how a changed file is noticed.
#include "worker/trainer/data_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/unit/trainer/temp_folder.h"

namespace sinkforge::trainer {
namespace {

using kernels::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;

class DataFilesTest : public testing::Test {
 protected:
  std::vector<std::string> Names(const std::vector<std::string>& patterns) {
    const auto files = ResolveDataFiles(patterns, {{root_.path().string()}, "data.train"});
    std::vector<std::string> names;
    if (!files.ok()) return {files.status().message()};
    for (const ResolvedFile& file : files.value()) names.push_back(file.name);
    return names;
  }
  kernels::Status Refusal(const std::string& pattern) {
    return ResolveDataFiles({pattern}, {{root_.path().string()}, "data.train"}).status();
  }

  TempFolder root_;
  TempFolder outside_;
};

TEST_F(DataFilesTest, FindsPathsAndGlobsInByteOrder) {
  for (const char* name : {"s/b.bin", "s/a.bin", "s/A.bin", "s/a10.bin", "s/c.txt", "t.txt"}) {
    root_.Write(name, "x");
  }
  EXPECT_THAT(Names({"t.txt", "s/*.bin"}),
              ElementsAre("t.txt", "s/A.bin", "s/a.bin", "s/a10.bin", "s/b.bin"));
  EXPECT_THAT(Names({"*/c.txt"}), ElementsAre("s/c.txt"));
  EXPECT_THAT(Names({root_ / "t.txt"}), ElementsAre("t.txt"));
  EXPECT_THAT(Names({"*"}), ElementsAre("t.txt"));  // the folder beside it is passed over
}

TEST_F(DataFilesTest, TakesNamesWithWildcardCharacters) {
  root_.Write("a[1].txt", "x");
  EXPECT_THAT(Names({"a[1].txt"}), ElementsAre("a[1].txt"));
}

TEST_F(DataFilesTest, FindsValidationFilesThatAreTrainedOn) {
  for (const char* name : {"a.txt", "b.txt", "c.txt"}) root_.Write(name, name);
  std::filesystem::create_symlink(root_ / "a.txt", root_ / "symbolic.txt");
  std::filesystem::create_hard_link(root_ / "b.txt", root_ / "hard.txt");
  const auto overlap = [&](const std::vector<std::string>& train,
                           const std::vector<std::string>& validation) {
    const std::vector<std::string> roots = {root_.path().string()};
    const auto trained = ResolveDataFiles(train, {roots, "data.train"});
    const auto held_back = ResolveDataFiles(validation, {roots, "data.validation"});
    EXPECT_TRUE(trained.ok() && held_back.ok());
    return DescribeOverlap(trained.value(), held_back.value());
  };
  EXPECT_EQ(overlap({"a.txt", "b.txt"}, {"c.txt"}), "");
  EXPECT_THAT(overlap({"a.txt", "b.txt"}, {"c.txt", root_ / "b.txt"}),
              HasSubstr("data.validation: " + (root_ / "b.txt") +
                        " is the file b.txt of data.train; bits per byte"));
  // Both are called what the job calls them.
  EXPECT_THAT(overlap({"a.txt"}, {"symbolic.txt"}),
              HasSubstr("data.validation: symbolic.txt is the file a.txt of data.train"));
  EXPECT_THAT(overlap({"s*.txt"}, {"a.txt"}),
              HasSubstr("data.validation: a.txt is the file symbolic.txt of data.train"));
  EXPECT_THAT(overlap({"b.txt"}, {"hard.txt"}), HasSubstr("hard.txt is the file b.txt"));
  EXPECT_THAT(overlap({"[ab].txt"}, {"*.txt"}), HasSubstr(", and 3 more are there as well;"));
}

TEST_F(DataFilesTest, RefusesANameThatACheckpointCannotKeep) {
  root_.Write("a.txt", "x");
  root_.Write("b\xff.txt", "x");
  const kernels::Status status = Refusal("*.txt");
  EXPECT_EQ(status.code(), StatusCode::kInvalidData);
  EXPECT_EQ(status.message(), "data.train: b\\xff.txt: its name is not UTF-8; rename the file");
  root_.Write("\u00fc.txt", "x");
  EXPECT_THAT(Names({"\u00fc.txt"}), ElementsAre("\u00fc.txt"));
}

TEST_F(DataFilesTest, FirstRootWithAMatchWins) {
  root_.Write("a.txt", "x");
  outside_.Write("a.txt", "y");
  outside_.Write("b.txt", "y");
  const DataLocation both{{"/nonexistent", root_.path().string(), outside_.path().string()},
                          "data.train"};
  const auto files = ResolveDataFiles({"a.txt", "b.txt"}, both);
  ASSERT_TRUE(files.ok()) << files.status().message();
  EXPECT_EQ(files.value()[0].path, root_ / "a.txt");
  EXPECT_EQ(files.value()[1].path, outside_ / "b.txt");
}

TEST_F(DataFilesTest, MissingFileNamesPatternAndRoots) {
  const kernels::Status status = Refusal("no/*.txt");
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("data.train: no file matches no/*.txt"));
  EXPECT_THAT(status.message(), HasSubstr(root_.path().string()));
}

TEST_F(DataFilesTest, EveryWayOutOfTheRootsIsRefused) {
  const std::string secret = outside_.Write("secret.txt", "x");
  root_.Write("folder/in.txt", "x");
  ASSERT_EQ(symlink(secret.c_str(), (root_ / "link.txt").c_str()), 0);
  ASSERT_EQ(symlink(outside_.path().c_str(), (root_ / "away").c_str()), 0);
  // A root's name must not be taken for a prefix of another folder's.
  const std::string twin = root_.path().string() + "-twin";
  std::filesystem::create_directory(twin);
  std::ofstream(twin + "/x.txt") << "x";
  for (const std::string& pattern :
       {secret, std::string("link.txt"), std::string("away/secret.txt"), std::string("away/*.txt"),
        std::string("*.txt"), std::string("../x"), std::string("folder/../../x"),
        std::string("folder/../folder/in.txt"), twin + "/x.txt", std::string("/etc/passwd")}) {
    const kernels::Status status = Refusal(pattern);
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << pattern << status.message();
    EXPECT_THAT(status.message(), HasSubstr("data roots " + root_.path().string()));
    EXPECT_THAT(status.message(), HasSubstr(pattern));
  }
  std::filesystem::remove_all(twin);
}

TEST_F(DataFilesTest, LinkInsideTheRootsIsFollowed) {
  root_.Write("real.txt", "x");
  ASSERT_EQ(symlink("real.txt", (root_ / "link.txt").c_str()), 0);
  EXPECT_THAT(Names({"link.txt"}), ElementsAre("real.txt"));
}

TEST_F(DataFilesTest, FolderAndMissingRootsAreRefused) {
  root_.Write("folder/in.txt", "x");
  EXPECT_EQ(Refusal("folder").code(), StatusCode::kInvalidData);
  EXPECT_THAT(Refusal("folder").message(), HasSubstr("folder/*.txt"));
  const auto files = ResolveDataFiles({"a"}, {{"/nonexistent"}, "data.train"});
  EXPECT_THAT(files.status().message(), HasSubstr("none of the data roots exists: /nonexistent"));
}

TEST_F(DataFilesTest, ChangedDataAreNamed) {
  root_.Write("a.txt", "abc");
  root_.Write("b.txt", "abc");
  const auto digest = [&](const std::vector<std::string>& patterns) {
    const auto files = ResolveDataFiles(patterns, {{root_.path().string()}, "data.train"});
    return DigestFiles(files.value()).value();
  };
  const std::vector<FileDigest> before = digest({"*.txt"});
  EXPECT_TRUE(CompareDigests(before, digest({"*.txt"})).ok());
  EXPECT_EQ(before[0].bytes, 3);
  EXPECT_EQ(before[0].xxh3, 0x78AF5F94892F3950U);  // XXH3 of "abc"
  root_.Write("b.txt", "abd");
  EXPECT_THAT(CompareDigests(before, digest({"*.txt"})).message(),
              HasSubstr("b.txt has changed since the checkpoint: its XXH3"));
  root_.Write("b.txt", "abcd");
  EXPECT_THAT(CompareDigests(before, digest({"*.txt"})).message(),
              HasSubstr("it had 3 bytes and has 4"));
  EXPECT_THAT(CompareDigests(before, digest({"a.txt"})).message(), HasSubstr("b.txt"));
  EXPECT_EQ(CompareDigests(before, digest({"a.txt"})).code(), StatusCode::kInvalidData);
}

class SidecarTest : public testing::Test {
 protected:
  kernels::Status Read(const std::vector<std::string>& names) {
    std::vector<ResolvedFile> files;
    for (const std::string& name : names) files.push_back({root_ / name, name, name});
    return ReadSidecars(files, &options_, &tokenizer_);
  }
  TempFolder root_;
  DatasetOptions options_{4, 8, {}};
  DataTokenizer tokenizer_;
};

TEST_F(SidecarTest, GivesBytesOfEveryToken) {
  root_.Write("a.json", R"({"vocab_size": 3, "bos_id": 0, "bytes_per_token": [0, 1, 5]})");
  ASSERT_TRUE(Read({"a.bin"}).ok());
  EXPECT_THAT(*options_.bytes_per_token, ElementsAre(0, 1, 5, 0));
}

TEST_F(SidecarTest, OneShardWithoutMeansUnknown) {
  root_.Write("a.json", R"({"vocab_size": 1, "bytes_per_token": [1]})");
  ASSERT_TRUE(Read({"a.bin", "b.bin"}).ok());
  EXPECT_FALSE(options_.bytes_per_token.has_value());
  ASSERT_TRUE(Read({"a.txt"}).ok());
  EXPECT_FALSE(options_.bytes_per_token.has_value());
  EXPECT_EQ(tokenizer_.fingerprint, "bytes");
}

TEST_F(SidecarTest, BrokenOnesAreRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "not a JSON object"},
      {"[]", "not a JSON object"},
      {"{}", "no vocab_size"},
      {R"({"vocab_size": 5, "bytes_per_token": [1,1,1,1,1]})", "more than model.vocab_size"},
      {R"({"vocab_size": 2, "bytes_per_token": [1]})", "vocab_size numbers"},
      {R"({"vocab_size": 2, "bytes_per_token": [1, -1]})", "bytes_per_token[1]"},
      {R"({"vocab_size": 2, "bytes_per_token": [1, 99999999]})", "bytes_per_token[1]"},
      {R"({"vocab_size": 2, "bos_id": 2, "bytes_per_token": [1, 1]})", "bos_id"},
      {R"({"vocab_size": 2, "bos_id": "x", "bytes_per_token": [1, 1]})", "bos_id"},
      {R"({"vocab_size": 2, "tokenizer": 7, "bytes_per_token": [1, 1]})", "not a string"}};
  for (const auto& [content, says] : cases) {
    root_.Write("a.json", content);
    EXPECT_EQ(Read({"a.bin"}).code(), StatusCode::kInvalidData);
    EXPECT_THAT(Read({"a.bin"}).message(), HasSubstr(says)) << content;
    EXPECT_THAT(Read({"a.bin"}).message(), HasSubstr(root_ / "a.json"));
  }
}

TEST_F(SidecarTest, DifferentVocabulariesAreRefused) {
  root_.Write("a.json", R"({"vocab_size": 2, "bytes_per_token": [1, 1]})");
  root_.Write("b.json", R"({"vocab_size": 2, "bytes_per_token": [1, 2]})");
  EXPECT_THAT(Read({"a.bin", "b.bin"}).message(), HasSubstr("differs from"));
}

TEST_F(SidecarTest, NamesTheTokenizerOfAllShards) {
  root_.Write("a.json", R"({"vocab_size": 1, "tokenizer": "xxh3:1", "bytes_per_token": [1]})");
  root_.Write("b.json", R"({"vocab_size": 1, "tokenizer": "xxh3:2", "bytes_per_token": [1]})");
  ASSERT_TRUE(Read({"a.bin"}).ok());
  EXPECT_EQ(tokenizer_.fingerprint, "xxh3:1");
  EXPECT_EQ(tokenizer_.named_by, root_ / "a.json");
  EXPECT_THAT(Read({"a.bin", "b.bin"}).message(), HasSubstr("differs from"));
  ASSERT_TRUE(Read({"a.bin", "c.bin"}).ok());
  EXPECT_EQ(tokenizer_.fingerprint, "");
}

class TokenizerClaimTest : public testing::Test {
 protected:
  void SetUp() override {
    root_.Write("t.json", "{}");
    const auto digests = DigestFiles({{root_ / "t.json", "t.json", "t.json"}});
    ASSERT_TRUE(digests.ok());
    char text[24];
    std::snprintf(text, sizeof(text), "xxh3:%016llx",
                  static_cast<unsigned long long>(digests.value()[0].xxh3));
    fingerprint_ = text;
    claim_.roots = {root_.path().string()};
    claim_.job_tokenizer = "t.json";
    claim_.train = {fingerprint_, "train.json"};
  }

  TempFolder root_;
  std::string fingerprint_;
  TokenizerClaim claim_;
};

TEST_F(TokenizerClaimTest, DataMadeWithTheJobsTokenizerAreTaken) {
  EXPECT_TRUE(CheckTokenizer(claim_).ok()) << CheckTokenizer(claim_).message();
  claim_.has_validation = true;
  claim_.validation = claim_.train;
  EXPECT_TRUE(CheckTokenizer(claim_).ok());
}

TEST_F(TokenizerClaimTest, DataOfAnotherTokenizerAreRefused) {
  claim_.train.fingerprint = "xxh3:other";
  EXPECT_EQ(CheckTokenizer(claim_).code(), StatusCode::kInvalidData);
  EXPECT_THAT(CheckTokenizer(claim_).message(), HasSubstr("as train.json says"));
  claim_.train.fingerprint = "";
  EXPECT_THAT(CheckTokenizer(claim_).message(), HasSubstr("sinkforge tokenize"));
  claim_.train.fingerprint = fingerprint_;
  claim_.has_validation = true;
  EXPECT_THAT(CheckTokenizer(claim_).message(), HasSubstr("data.validation"));
}

TEST_F(TokenizerClaimTest, ATokenizerThatIsNotThereIsRefused) {
  claim_.job_tokenizer = "missing.json";
  EXPECT_EQ(CheckTokenizer(claim_).code(), StatusCode::kNotFound);
  EXPECT_THAT(CheckTokenizer(claim_).message(), HasSubstr("data.tokenizer"));
}

TEST_F(TokenizerClaimTest, BytesAreNotATokenizersShards) {
  claim_.job_tokenizer = "bytes";
  EXPECT_THAT(CheckTokenizer(claim_).message(), HasSubstr("as train.json says"));
  EXPECT_THAT(CheckTokenizer(claim_).message(), HasSubstr("give data.tokenizer"));
  claim_.train = {"bytes", ""};
  claim_.has_validation = true;
  claim_.validation = {"bytes", "validation.json"};
  EXPECT_TRUE(CheckTokenizer(claim_).ok());
  claim_.validation.fingerprint = "xxh3:other";
  EXPECT_THAT(CheckTokenizer(claim_).message(), HasSubstr("as validation.json says"));
  claim_.validation.fingerprint = "";  // shards of another program
  EXPECT_TRUE(CheckTokenizer(claim_).ok());
}

TEST_F(TokenizerClaimTest, TextIsNotOfATokenizer) {
  claim_.has_validation = true;
  claim_.validation = {"bytes", ""};
  EXPECT_THAT(CheckTokenizer(claim_).message(),
              HasSubstr("data.validation: it is text, which is read as bytes"));
}

}  // namespace
}  // namespace sinkforge::trainer
