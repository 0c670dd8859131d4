// A worker's database with damaged files: found, set aside, and everything readable moved on, while
// it is open and at a start.
#include "worker/store/salvage.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/test_support.h"
#include "worker/store/worker_database.h"

namespace sinkforge::worker {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

constexpr int64_t kElements = 600'000;  // 4.6 MiB a part, which are one data file

class SalvageTest : public testing::Test {
 protected:
  SalvageTest() { Open(); }

  void Open() {
    database_.reset();
    base::KvOptions options;
    options.path = folder_.path() + "/store";
    auto database = WorkerDatabase::Open(options, [this] { ++damages_; });
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
    absl::Status opened = OpenTables();
    if (absl::IsDataLoss(opened)) opened = OpenTables();
    ASSERT_TRUE(opened.ok()) << opened;
  }
  absl::Status OpenTables() {
    CheckpointStoreOptions options;
    options.worker = "node-1";
    options.path = folder_.path();
    options.disk_free_bytes = []() -> absl::StatusOr<int64_t> { return int64_t{1} << 40; };
    options.rows_may_be_missing = [this] { return database_->is_wrecked(); };
    auto checkpoints = CheckpointStore::Open(database_.get(), options);
    if (!checkpoints.ok()) return checkpoints.status();
    auto steps = StepSpool::Open(database_.get(), [] {});
    if (!steps.ok()) return steps.status();
    LogSpoolOptions logs_options;
    logs_options.on_news = [] {};
    auto logs = LogSpool::Open(database_.get(), logs_options);
    if (!logs.ok()) return logs.status();
    checkpoints_ = *std::move(checkpoints);
    steps_ = *std::move(steps);
    logs_ = *std::move(logs);
    return absl::OkStatus();
  }
  void Close() {
    logs_.reset();
    steps_.reset();
    checkpoints_.reset();
    database_.reset();
  }

  void WritePart(int64_t step) {
    auto writer = checkpoints_->Begin(MakePart("d4-1", 1, step, 0));
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const v1::CheckpointData& data : MakeStream(kElements, static_cast<uint32_t>(step))) {
      ASSERT_TRUE((*writer)->Add(data).ok());
    }
    ASSERT_TRUE((*writer)->Commit().ok());
  }
  void WriteRecords(int64_t from, int64_t to) {
    for (int64_t number = from; number <= to; ++number) {
      v1::StepRecord step;
      step.set_attempt(1);
      step.set_step(number);
      ASSERT_TRUE(steps_->Append("d4-1", {step}, nullptr).ok());
      v1::LogLine line;
      line.set_attempt(1);
      line.set_sequence(number);
      logs_->Append({"d4-1", 1, 0}, {line});
    }
  }
  absl::Status Read(int64_t step) {
    std::vector<v1::CheckpointData> stream;
    const absl::Status status =
        checkpoints_->Read({"d4-1", 1, step, 0}, {}, [&](const v1::CheckpointData& data) {
          stream.push_back(data);
          return true;
        });
    if (!status.ok()) return status;
    const auto expected = MakeStream(kElements, static_cast<uint32_t>(step));
    EXPECT_EQ(stream.size(), expected.size());
    EXPECT_EQ(stream[5].SerializeAsString(), expected[5].SerializeAsString());
    return absl::OkStatus();
  }
  std::vector<int64_t> Steps() {
    std::vector<int64_t> steps;
    for (const v1::CheckpointPart& part : checkpoints_->Parts()) steps.push_back(part.step());
    return steps;
  }
  // Those of parts, in the order in which they were written.
  std::vector<fs::path> LargeFiles() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder_.path() + "/store")) {
      if (entry.path().extension() == ".sst" && entry.file_size() > (1 << 20)) {
        files.push_back(entry.path());
      }
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  static void DamageAt(const fs::path& path, uintmax_t offset) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file.write("damaged!", 8);
  }
  absl::StatusOr<int64_t> SalvageAll(SalvageParts::KnownParts known) {
    return Salvage({database_.get(), checkpoints_.get(), steps_.get(), logs_.get(), known});
  }
  std::vector<std::string> Folders() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  TempFolder folder_;
  int damages_ = 0;
  std::unique_ptr<WorkerDatabase> database_;
  std::unique_ptr<CheckpointStore> checkpoints_;
  std::unique_ptr<StepSpool> steps_;
  std::unique_ptr<LogSpool> logs_;
};

TEST_F(SalvageTest, ALostFileTakesNoOlderPartWithIt) {
  for (const int64_t step : {100, 200}) WritePart(step);
  ASSERT_EQ(LargeFiles().size(), 2U);
  const fs::path newest = LargeFiles()[1];
  Close();
  fs::resize_file(newest, 3000);
  Open();
  const auto lost = SalvageAll(SalvageParts::KnownParts::kInDamagedFiles);
  ASSERT_TRUE(lost.ok()) << lost.status();
  EXPECT_THAT(Steps(), ElementsAre(100));
  EXPECT_TRUE(Read(100).ok());
}

TEST_F(SalvageTest, MovesEverythingButTheDamagedPartWhileItIsOpen) {
  WriteRecords(1, 20);
  for (const int64_t step : {100, 200, 300}) WritePart(step);
  WriteRecords(21, 40);
  ASSERT_EQ(LargeFiles().size(), 3U);
  DamageAt(LargeFiles()[1], fs::file_size(LargeFiles()[1]) / 2);
  EXPECT_TRUE(Read(100).ok());
  EXPECT_FALSE(database_->is_wrecked());
  EXPECT_TRUE(absl::IsDataLoss(Read(200)));
  EXPECT_TRUE(database_->is_wrecked());
  EXPECT_EQ(damages_, 1);
  // What comes in meanwhile goes to the new database; nobody is told that a part is gone.
  WriteRecords(41, 50);
  EXPECT_TRUE(absl::IsUnavailable(Read(300)));
  EXPECT_THAT(Steps(), ElementsAre(100, 200, 300));

  const auto lost = SalvageAll(SalvageParts::KnownParts::kInMemory);
  ASSERT_TRUE(lost.ok()) << lost.status();
  EXPECT_EQ(*lost, 1);
  EXPECT_FALSE(database_->is_wrecked());
  EXPECT_EQ(database_->set_aside_count(), 1);
  EXPECT_THAT(Steps(), ElementsAre(100, 300));
  EXPECT_TRUE(Read(100).ok());
  EXPECT_TRUE(Read(300).ok());
  EXPECT_EQ(steps_->size().records, 50);
  const auto request = steps_->Next("d4-1");
  ASSERT_TRUE(request.ok());
  ASSERT_EQ(request->steps_size(), 50);
  EXPECT_EQ(request->steps(0).step(), 1);
  EXPECT_EQ(request->steps(49).step(), 50);
  EXPECT_EQ(logs_->Next("d4-1")->lines_size(), 50);
  WritePart(200);
  EXPECT_TRUE(Read(200).ok());
  EXPECT_THAT(Folders(), ElementsAre("incoming", "store", "store.damaged-1"));
}

// A compaction that meets damage makes the database refuse every write.
TEST_F(SalvageTest, TakesWritesAgainAfterACompactionThatMetDamage) {
  for (const int64_t step : {100, 300}) WritePart(step);
  const auto row = [](int64_t number) { return base::KeyBuilder("mixed").Number(number).key(); };
  std::mt19937 random(7);
  for (int64_t number = 0; number < 200; ++number) {
    base::KvBatch batch;
    std::string value(1000, '\0');
    for (char& byte : value) byte = static_cast<char>(random());
    batch.Put(row(number), value);
    ASSERT_TRUE(database_->Write(batch, base::Durability::kLogged).ok());
  }
  Close();
  Open();  // moves the log into a data file
  const auto files = [&] {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(folder_.path() + "/store")) {
      const bool is_mixed = entry.file_size() > 100'000 && entry.file_size() < (1 << 20);
      if (entry.path().extension() == ".sst" && is_mixed) found.push_back(entry.path());
    }
    return found;
  }();
  ASSERT_EQ(files.size(), 1U);
  DamageAt(files[0], fs::file_size(files[0]) / 2);
  // Done in the database that takes its place, where nothing is left to remove.
  EXPECT_TRUE(database_->RemoveRange(row(0), row(10)).ok());
  EXPECT_EQ(damages_, 1);
  WriteRecords(1, 5);
  const auto lost = SalvageAll(SalvageParts::KnownParts::kInMemory);
  ASSERT_TRUE(lost.ok()) << lost.status();
  EXPECT_EQ(*lost, 0);
  EXPECT_THAT(Steps(), ElementsAre(100, 300));
  EXPECT_TRUE(Read(100).ok());
  EXPECT_TRUE(Read(300).ok());
  EXPECT_EQ(steps_->size().records, 5);
}

TEST_F(SalvageTest, StartsOnWhateverIsDamaged) {
  const auto manifest = [&] {
    for (const auto& entry : fs::directory_iterator(folder_.path() + "/store")) {
      if (entry.path().filename().string().compare(0, 8, "MANIFEST") == 0) return entry.path();
    }
    return fs::path();
  };
  struct Case {
    const char* what;
    std::function<void()> damage;
    int64_t lost_max;  // parts; a damaged file may hold the end of one and the start of another
  };
  const std::vector<Case> cases = {
      {"first row", [&] { DamageAt(LargeFiles()[0], 100); }, 2},
      {"middle", [&] { DamageAt(LargeFiles()[1], fs::file_size(LargeFiles()[1]) / 2); }, 2},
      {"cut", [&] { fs::resize_file(LargeFiles()[2], 1'000'000); }, 2},
      {"missing", [&] { fs::remove(LargeFiles()[1]); }, 2},
      {"manifest", [&] { DamageAt(manifest(), 30); }, 0},
      {"manifest cut", [&] { fs::resize_file(manifest(), 60); }, 0},
      {"current", [&] { fs::remove(folder_.path() + "/store/CURRENT"); }, 0}};
  const std::vector<int64_t> all = {100, 200, 300};
  for (const Case& damaged : cases) {
    SCOPED_TRACE(damaged.what);
    for (const int64_t step : all) WritePart(step);
    WriteRecords(1, 30);
    ASSERT_EQ(LargeFiles().size(), 3U);
    Close();
    damaged.damage();
    Open();
    // Some damage is met by whoever reads the row.
    EXPECT_TRUE(database_->is_wrecked() || std::any_of(all.begin(), all.end(), [&](int64_t step) {
                  return absl::IsDataLoss(Read(step));
                }));
    ASSERT_TRUE(database_->is_wrecked());
    const auto lost = SalvageAll(SalvageParts::KnownParts::kInDamagedFiles);
    ASSERT_TRUE(lost.ok()) << lost.status();
    // Of a part whose row went with a file, nobody here knows that it was lost.
    const std::vector<int64_t> left = Steps();
    EXPECT_LE(*lost, 3 - static_cast<int64_t>(left.size()));
    EXPECT_GE(static_cast<int64_t>(left.size()), 3 - damaged.lost_max);
    EXPECT_EQ(left == all, damaged.lost_max == 0);
    for (const int64_t step : left) EXPECT_TRUE(Read(step).ok()) << step;
    EXPECT_EQ(steps_->size().records, 30);
    EXPECT_EQ(logs_->size().records, 30);
    Close();
    fs::remove_all(folder_.path() + "/store");
    Open();
  }
  // The newest of what was set aside stays.
  EXPECT_THAT(Folders(), ElementsAre("incoming", "store", "store.damaged-5", "store.damaged-6",
                                     "store.damaged-7"));
}

TEST_F(SalvageTest, GoesOnWhereAFormerLifeWasInterrupted) {
  for (const int64_t step : {100, 200, 300}) WritePart(step);
  WriteRecords(1, 30);
  Close();
  DamageAt(folder_.path() + "/store/CURRENT", 0);
  Open();
  ASSERT_TRUE(database_->is_wrecked());
  WritePart(400);
  Open();
  ASSERT_TRUE(database_->is_wrecked());
  ASSERT_TRUE(SalvageAll(SalvageParts::KnownParts::kInDamagedFiles).ok());
  EXPECT_THAT(Steps(), ElementsAre(100, 200, 300, 400));
  for (const int64_t step : Steps()) EXPECT_TRUE(Read(step).ok());
  EXPECT_EQ(steps_->size().records, 30);
  EXPECT_EQ(database_->set_aside_count(), 0);
}

}  // namespace
}  // namespace sinkforge::worker
