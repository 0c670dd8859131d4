// Data sets from files: text and both .bin formats, rows across file borders, the shuffled order,
// and every way in which a file can be wrong.
#include "worker/trainer/core/dataset.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sinkforge::trainer {
namespace {

using kernels::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DatasetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "dataset_test.XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  DataFile Write(const std::string& name, const std::string& bytes) {
    const std::string path = (folder_ / name).string();
    std::ofstream(path, std::ios::binary) << bytes;
    return {path};
  }

  static std::string Header(int32_t magic, int32_t version, int32_t count) {
    std::string bytes(1024, '\0');
    const int32_t header[3] = {magic, version, count};
    std::memcpy(bytes.data(), header, sizeof(header));
    return bytes;
  }

  template <typename T>
  static std::string Shard(const std::vector<T>& tokens) {
    std::string bytes = Header(sizeof(T) == 2 ? 20240520 : 20240801, sizeof(T) == 2 ? 1 : 7,
                               static_cast<int32_t>(tokens.size()));
    bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(T));
    return bytes;
  }

  static DatasetOptions Options(int64_t vocab_size, int64_t sequence_length) {
    DatasetOptions options;
    options.vocab_size = vocab_size;
    options.sequence_length = sequence_length;
    return options;
  }

  void ExpectError(const std::vector<DataFile>& files, const DatasetOptions& options,
                   StatusCode code, const std::string& message) {
    const auto dataset = Dataset::Open(files, options);
    ASSERT_FALSE(dataset.ok());
    EXPECT_EQ(dataset.status().code(), code);
    EXPECT_THAT(dataset.status().message(), HasSubstr(message));
    if (!files.empty()) {
      EXPECT_THAT(dataset.status().message(), HasSubstr(files.back().path));
    }
  }

  std::filesystem::path folder_;
};

TEST_F(DatasetTest, CutsTextIntoRowsThatShareOneToken) {
  auto dataset = Dataset::Open({Write("a.txt", "abcdefgh")}, Options(256, 3));
  ASSERT_TRUE(dataset.ok()) << dataset.status().message();
  EXPECT_EQ(dataset.value()->tokens(), 8);
  EXPECT_EQ(dataset.value()->rows(), 2);
  std::vector<int32_t> inputs(3);
  std::vector<int32_t> targets(3);
  dataset.value()->ReadRow(1, inputs.data(), targets.data());
  EXPECT_THAT(inputs, ElementsAre('d', 'e', 'f'));
  EXPECT_THAT(targets, ElementsAre('e', 'f', 'g'));
  EXPECT_EQ(dataset.value()->TokenBytes('e'), 1);
}

TEST_F(DatasetTest, JoinsFilesToOneStream) {
  auto dataset = Dataset::Open({Write("a.txt", "ab"), Write("b.txt", "c"), Write("c.txt", "defg")},
                               Options(256, 5));
  ASSERT_TRUE(dataset.ok());
  EXPECT_EQ(dataset.value()->rows(), 1);
  std::vector<int32_t> inputs(5);
  std::vector<int32_t> targets(5);
  dataset.value()->ReadRow(0, inputs.data(), targets.data());
  EXPECT_THAT(inputs, ElementsAre('a', 'b', 'c', 'd', 'e'));
  EXPECT_THAT(targets, ElementsAre('b', 'c', 'd', 'e', 'f'));
  int32_t last = 0;
  dataset.value()->ReadTokens(6, 1, &last);
  EXPECT_EQ(last, 'g');
}

TEST_F(DatasetTest, TakesHighBytesAsTheyAre) {
  auto dataset = Dataset::Open({Write("a.txt", "\xff\x80\x01")}, Options(256, 2));
  ASSERT_TRUE(dataset.ok());
  std::vector<int32_t> inputs(2);
  std::vector<int32_t> targets(2);
  dataset.value()->ReadRow(0, inputs.data(), targets.data());
  EXPECT_THAT(inputs, ElementsAre(255, 128));
}

TEST_F(DatasetTest, ReadsBothShardFormats) {
  auto narrow =
      Dataset::Open({Write("a.bin", Shard<uint16_t>({1, 50000, 65535}))}, Options(65536, 2));
  auto wide =
      Dataset::Open({Write("b.bin", Shard<uint32_t>({1, 70000, 128255}))}, Options(128256, 2));
  ASSERT_TRUE(narrow.ok()) << narrow.status().message();
  ASSERT_TRUE(wide.ok()) << wide.status().message();
  std::vector<int32_t> inputs(2);
  std::vector<int32_t> targets(2);
  narrow.value()->ReadRow(0, inputs.data(), targets.data());
  EXPECT_THAT(targets, ElementsAre(50000, 65535));
  wide.value()->ReadRow(0, inputs.data(), targets.data());
  EXPECT_THAT(targets, ElementsAre(70000, 128255));
}

TEST_F(DatasetTest, KnowsTheBytesOfShardTokensOnlyFromTheSidecar) {
  const DataFile file = Write("a.bin", Shard<uint16_t>({0, 1, 2}));
  auto without = Dataset::Open({file}, Options(3, 2));
  ASSERT_TRUE(without.ok());
  EXPECT_FALSE(without.value()->TokenBytes(1).has_value());
  DatasetOptions options = Options(3, 2);
  options.bytes_per_token = {0, 4, 2};
  auto with = Dataset::Open({file}, options);
  ASSERT_TRUE(with.ok());
  EXPECT_EQ(with.value()->TokenBytes(1), 4);
  options.bytes_per_token = {0, 4};
  ExpectError({file}, options, StatusCode::kInvalidData, "2 tokens of a vocabulary of 3");
}

TEST_F(DatasetTest, ShufflesEveryEpochAnew) {
  std::string text;
  for (int i = 0; i < 201; ++i) text.push_back(static_cast<char>(i));
  auto dataset = Dataset::Open({Write("a.txt", text)}, Options(256, 2));
  ASSERT_TRUE(dataset.ok());
  const int64_t rows = dataset.value()->rows();
  ASSERT_EQ(rows, 100);
  std::vector<std::vector<int64_t>> epochs(3);
  for (int64_t i = 0; i < 3 * rows; ++i) {
    epochs[static_cast<size_t>(i / rows)].push_back(dataset.value()->ShuffledRow(9, i));
  }
  for (const auto& epoch : epochs) {
    EXPECT_EQ(std::set<int64_t>(epoch.begin(), epoch.end()).size(), 100U);
    EXPECT_EQ(*std::max_element(epoch.begin(), epoch.end()), 99);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  // Going back gives the same order again; another seed gives another.
  EXPECT_EQ(dataset.value()->ShuffledRow(9, 0), epochs[0][0]);
  std::vector<int64_t> other;
  for (int64_t i = 0; i < rows; ++i) other.push_back(dataset.value()->ShuffledRow(10, i));
  EXPECT_NE(other, epochs[0]);
}

TEST_F(DatasetTest, ShufflesWithoutFavour) {
  auto dataset = Dataset::Open({Write("a.txt", "abcde")}, Options(256, 1));
  ASSERT_TRUE(dataset.ok());
  // Which of four rows comes first in 8000 epochs: 2000 each, standard deviation 39.
  int counts[4] = {};
  for (int64_t epoch = 0; epoch < 8000; ++epoch) {
    counts[dataset.value()->ShuffledRow(1, 4 * epoch)] += 1;
  }
  for (const int count : counts) EXPECT_NEAR(count, 2000, 160);
}

TEST_F(DatasetTest, NamesAMissingFile) {
  ExpectError({{(folder_ / "none.txt").string()}}, Options(256, 2), StatusCode::kNotFound,
              "No such file");
}

TEST_F(DatasetTest, RefusesWhatIsNoDataFile) {
  ExpectError({}, Options(256, 2), StatusCode::kInvalidData, "no data files");
  ExpectError({{folder_.string()}}, Options(256, 2), StatusCode::kInvalidData,
              "not a regular file");
  ExpectError({Write("empty.txt", "")}, Options(256, 2), StatusCode::kInvalidData, "empty");
  ExpectError({Write("empty.bin", "")}, Options(256, 2), StatusCode::kInvalidData, "empty");
}

TEST_F(DatasetTest, RefusesBrokenShards) {
  const std::string good = Shard<uint16_t>({0, 1, 2, 3});
  const DatasetOptions options = Options(256, 2);
  ExpectError({Write("a.bin", good.substr(0, 1000))}, options, StatusCode::kInvalidData,
              "less than a header");
  ExpectError({Write("b.bin", good.substr(0, good.size() - 1))}, options, StatusCode::kInvalidData,
              "truncated");
  ExpectError({Write("c.bin", good + "x")}, options, StatusCode::kInvalidData, "foreign");
  ExpectError({Write("d.bin", std::string(2000, 'x'))}, options, StatusCode::kInvalidData,
              "not a token shard");
  ExpectError({Write("e.bin", Header(20240520, 7, 4) + "12345678")}, options,
              StatusCode::kInvalidData, "not a token shard");
  ExpectError({Write("f.bin", Header(20240522, 1, 4) + "12345678")}, options,
              StatusCode::kInvalidData, "evaluation shard");
  ExpectError({Write("g.bin", Header(20240520, 1, 0))}, options, StatusCode::kInvalidData,
              "counts 0 tokens");
  ExpectError({Write("h.bin", Header(20240520, 1, -5))}, options, StatusCode::kInvalidData,
              "counts -5 tokens");
}

TEST_F(DatasetTest, FindsTokensOutsideTheVocabulary) {
  // Far into the file, so that every token is checked and the position is the file's own.
  std::vector<uint16_t> narrow(10000, 5);
  narrow[9876] = 300;
  const DataFile good = Write("good.bin", Shard<uint16_t>({1, 2, 3}));
  ExpectError({good, Write("a.bin", Shard(narrow))}, Options(300, 2), StatusCode::kInvalidData,
              "token 300 at position 9876");
  ExpectError({Write("b.bin", Shard<uint32_t>({1, 4000000000U, 3}))}, Options(300, 2),
              StatusCode::kInvalidData, "token 4000000000 at position 1");
  ExpectError({Write("a.txt", "abc\xf0")}, Options(128, 2), StatusCode::kInvalidData,
              "token 240 at position 3");
}

TEST_F(DatasetTest, RefusesTextBesideShards) {
  ExpectError({Write("a.txt", "abc"), Write("b.bin", Shard<uint16_t>({1, 2, 3}))}, Options(256, 2),
              StatusCode::kInvalidData, "do not mix");
}

TEST_F(DatasetTest, RefusesASequenceLongerThanTheData) {
  ExpectError({Write("a.txt", "abcd")}, Options(256, 4), StatusCode::kInvalidData,
              "4 tokens are fewer than one row of data.sequence_length 4");
  EXPECT_TRUE(Dataset::Open({Write("b.txt", "abcde")}, Options(256, 4)).ok());
}

}  // namespace
}  // namespace sinkforge::trainer
