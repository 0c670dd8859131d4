// Whether a port file can be written is known before a daemon opens anything, and it goes with it.
#include "base/port_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace sinkforge::base {
namespace {

TEST(CheckPortFileTest, WantsAFolder) {
  const std::string folder = testing::TempDir();
  EXPECT_TRUE(CheckPortFile("").ok());
  EXPECT_TRUE(CheckPortFile("ports.json").ok());  // in the working folder
  EXPECT_TRUE(CheckPortFile(folder + "/ports.json").ok());
  const absl::Status missing = CheckPortFile(folder + "/missing/ports.json");
  EXPECT_TRUE(absl::IsInvalidArgument(missing));
  EXPECT_EQ(missing.message(), "--port-file " + folder +
                                   "/missing/ports.json: there is no folder " + folder +
                                   "/missing; make it first, or give another");
}

TEST(CheckPortFileTest, WantsToWriteThere) {
  // No file can be made in /proc, whoever asks.
  const absl::Status refused = CheckPortFile("/proc/ports.json");
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(std::string(refused.message()),
              testing::StartsWith("--port-file /proc/ports.json: no file can be made in /proc ("));
  const std::string folder = testing::TempDir() + "/port-file-trial";
  std::filesystem::create_directory(folder);
  EXPECT_TRUE(absl::IsInvalidArgument(CheckPortFile(folder)));
  EXPECT_TRUE(CheckPortFile(folder + "/ports.json").ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder)) << "the trial leaves nothing";
  RemovePortFile(folder + "/ports.json");  // nothing to remove
  std::filesystem::remove(folder);
}

}  // namespace
}  // namespace sinkforge::base
