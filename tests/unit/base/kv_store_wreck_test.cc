// KvWreck: what is read of a database whose files are damaged, cut, gone, or no longer named.
#include "base/kv_store_wreck.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/ids.h"

namespace sinkforge::base {
namespace {

namespace fs = std::filesystem;

constexpr int kRows = 2000;

std::string Key(int number) {
  return KeyBuilder("table").Text("job-" + std::to_string(number / 500)).Number(number).key();
}
// Does not compress: damage somewhere in the file is damage to some row.
std::string Value(int number) {
  std::string value;
  auto state = static_cast<uint32_t>(number);
  while (value.size() < 1000) value += static_cast<char>((state = state * 1664525 + 1013) >> 24);
  return value;
}

class KvWreckTest : public ::testing::Test {
 protected:
  KvWreckTest() {
    options_.path = (fs::temp_directory_path() / ("wreck-" + RandomId())).string();
    Put(Open(options_).get(), 0, kRows);
    Open(options_);  // moves the log into a data file
  }
  ~KvWreckTest() override { fs::remove_all(options_.path); }

  static std::unique_ptr<KvStore> Open(const KvOptions& options) {
    auto store = KvStore::Open(options);
    EXPECT_TRUE(store.ok()) << store.status();
    return std::move(*store);
  }
  static void Put(KvStore* store, int from, int to) {
    for (int number = from; number < to; ++number) {
      KvBatch batch;
      batch.Put(Key(number), Value(number));
      ASSERT_TRUE(store->Write(batch, Durability::kLogged).ok());
    }
  }
  std::vector<fs::path> Files(const std::string& extension) const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(options_.path)) {
      if (entry.path().extension() == extension) files.push_back(entry.path());
    }
    return files;
  }
  void DamageAt(int percent) const {
    ASSERT_EQ(Files(".sst").size(), 1U);
    const fs::path path = Files(".sst").front();
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(path) * percent / 100));
    file.write("damaged!", 8);
  }
  // The numbers of the rows that are read, each of which must be what was written, and in order.
  std::vector<int> Read(const std::string& end = "tablf") {
    wreck_.reset();
    auto wreck = KvWreck::Open(options_.path);
    EXPECT_TRUE(wreck.ok()) << wreck.status();
    wreck_ = std::move(*wreck);
    std::map<std::string, int> numbers;
    for (int number = 0; number < 2 * kRows; ++number) numbers[Key(number)] = number;
    std::vector<int> read;
    wreck_->Scan("table", end, [&](std::string_view key, std::string_view value) {
      read.push_back(numbers.at(std::string(key)));
      EXPECT_EQ(value, Value(read.back()));
      return true;
    });
    EXPECT_TRUE(std::is_sorted(read.begin(), read.end()));
    return read;
  }

  KvOptions options_;
  std::unique_ptr<KvWreck> wreck_;
};

TEST_F(KvWreckTest, ReadsEveryRowAlsoOfTheLog) {
  Put(Open(options_).get(), kRows, kRows + 100);
  EXPECT_EQ(Read().size(), kRows + 100U);
  EXPECT_EQ(Read(Key(10)).size(), 10U);
  EXPECT_TRUE(wreck_->damage().empty());
}

TEST_F(KvWreckTest, LosesOnlyTheBlocksThatAreDamaged) {
  std::vector<int> percents = {1, 30, 31, 60, 97};
  for (const int percent : percents) DamageAt(percent);
  const size_t read = Read().size();
  // A block holds some four rows.
  EXPECT_LT(read, size_t{kRows});
  EXPECT_GT(read, size_t{kRows - 100});
  EXPECT_EQ(wreck_->damage().size(), 1U);
}

TEST_F(KvWreckTest, ReadsTheOtherFilesWhereOneIsCutOrGone) {
  const fs::path first = Files(".sst").front();
  Put(Open(options_).get(), kRows, kRows + 100);
  Open(options_);
  fs::resize_file(first, fs::file_size(first) / 2);
  EXPECT_TRUE(absl::IsDataLoss(KvStore::Open(options_).status()));
  EXPECT_EQ(Read().size(), 100U);
  EXPECT_EQ(wreck_->damage().size(), 1U);
  fs::remove(first);
  EXPECT_TRUE(absl::IsDataLoss(KvStore::Open(options_).status()));
  EXPECT_EQ(Read().size(), 100U);
}

TEST_F(KvWreckTest, NoticesThatNothingNamesTheDataFiles) {
  EXPECT_TRUE(CheckDataFilesCount(options_.path).ok());
  for (const auto& entry : fs::directory_iterator(options_.path)) {
    const std::string name = entry.path().filename().string();
    if (name.compare(0, 8, "MANIFEST") == 0) fs::resize_file(entry.path(), 60);
  }
  EXPECT_TRUE(absl::IsDataLoss(CheckDataFilesCount(options_.path)));
  fs::remove(options_.path + "/CURRENT");
  EXPECT_TRUE(absl::IsDataLoss(CheckDataFilesCount(options_.path)));
  EXPECT_EQ(Read().size(), size_t{kRows});
}

TEST_F(KvWreckTest, CopiesWhatIsNotThereAndGivesTheDiskBack) {
  KvOptions other = options_;
  other.path += "-other";
  {
    const auto to = Open(other);
    KvBatch batch;
    batch.Put(Key(7), "newer");
    ASSERT_TRUE(to->Write(batch, Durability::kLogged).ok());
    ASSERT_EQ(Read().size(), size_t{kRows});
    const auto copied = wreck_->Copy("table", "tablf", to.get());
    ASSERT_TRUE(copied.ok()) << copied.status();
    EXPECT_EQ(*copied, kRows - 1);
    EXPECT_EQ(*to->Get(Key(7)), "newer");
    EXPECT_EQ(*to->Get(Key(8)), Value(8));
  }
  fs::remove_all(other.path);
  wreck_->Release(Key(kRows - 1), "tablf");
  EXPECT_EQ(Files(".sst").size(), 1U);
  wreck_->Release("tablf", "tablg");
  EXPECT_EQ(Files(".sst").size(), 0U);
}

}  // namespace
}  // namespace sinkforge::base
