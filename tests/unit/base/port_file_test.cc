// Whether a port file can be written is known before a daemon opens anything.
#include "base/port_file.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace sinkforge::base
