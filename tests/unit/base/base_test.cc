// Clock conversions, ids, files and metrics of base.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "base/clock.h"
#include "base/files.h"
#include "base/ids.h"
#include "base/metrics.h"

namespace sinkforge::base {
namespace {

using std::chrono::nanoseconds;

TEST(ClockTest, RoundTripsTimesBeforeAndAfterTheEpoch) {
  for (const int64_t nanos : {int64_t{0}, int64_t{1}, int64_t{-1},
                              int64_t{1'700'000'000'123'456'789}, int64_t{-5'000'000'001}}) {
    const std::chrono::system_clock::time_point time{nanoseconds(nanos)};
    const auto proto = ToProto(time);
    EXPECT_GE(proto.nanos(), 0);
    EXPECT_EQ(FromProto(proto), time);
    EXPECT_EQ(FromProto(ToProto(nanoseconds(nanos))), nanoseconds(nanos));
  }
}

TEST(IdsTest, AreLongAndDistinct) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(RandomId());
  EXPECT_EQ(ids.size(), 1000U);
  EXPECT_EQ(ids.begin()->size(), 32U);
}

TEST(IdsTest, TakesTheTraceIdOutOfATraceparentAndNothingElse) {
  const std::string id = "4bf92f3577b34da6a3ce929d0e0e4736";
  EXPECT_EQ(TraceIdOf("00-" + id + "-00f067aa0ba902b7-01"), id);
  EXPECT_EQ(TraceIdOf("cc-" + id + "-00f067aa0ba902b7-01-what-will-be"), id);
  for (const std::string& wrong :
       {std::string(), "ff-" + id + "-00f067aa0ba902b7-01", "00-" + id, "00" + id,
        "00-" + std::string(32, '0') + "-00f067aa0ba902b7-01",
        std::string("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")}) {
    EXPECT_EQ(TraceIdOf(wrong), "") << wrong;
  }
  EXPECT_TRUE(IsTraceId(RandomId()));
}

class FilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = (std::filesystem::temp_directory_path() / ("files-" + RandomId())).string();
    ASSERT_TRUE(MakeFolder(folder_ + "/a/b").ok());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(FilesTest, ReplacesAWholeFileAndLeavesNoTemporary) {
  const std::string path = folder_ + "/a/file";
  ASSERT_TRUE(WriteFileDurably(path, "one").ok());
  ASSERT_TRUE(WriteFileDurably(path, "two").ok());
  EXPECT_EQ(*ReadFile(path, 100), "two");
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_ + "/a")) {
    ++entries;
  }
  EXPECT_EQ(entries, 2);  // the file and the folder b
}

TEST_F(FilesTest, NamesWhatIsMissingOrTooLarge) {
  const auto missing = ReadFile(folder_ + "/none", 100);
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(missing.status().message()).find("/none"), std::string::npos);
  ASSERT_TRUE(WriteFileDurably(folder_ + "/big", std::string(200, 'x')).ok());
  EXPECT_EQ(ReadFile(folder_ + "/big", 100).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(FilesTest, AWriteThatFailsNamesTheFileAndNotItsTemporary) {
  const absl::Status status = WriteFileDurably(folder_ + "/none/file", "x");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(std::string(status.message()).find(folder_ + "/none/file: create"), 0U) << status;
}

TEST_F(FilesTest, DoesNotTakeAFileForAFolder) {
  ASSERT_TRUE(WriteFileDurably(folder_ + "/plain", "x").ok());
  EXPECT_FALSE(MakeFolder(folder_ + "/plain").ok());
}

TEST(MetricsTest, TellsWhenTheAddressIsTaken) {
  const auto first = Metrics::Create();
  const auto port = first->Serve("127.0.0.1:0");
  ASSERT_TRUE(port.ok()) << port.status();
  const auto second = Metrics::Create();
  const auto taken = second->Serve("127.0.0.1:" + std::to_string(*port));
  ASSERT_FALSE(taken.ok());
  EXPECT_NE(std::string(taken.status().message()).find("--metrics-listen"), std::string::npos);
}

}  // namespace
}  // namespace sinkforge::base
