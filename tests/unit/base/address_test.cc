// Which addresses a daemon may listen on.
#include "base/address.h"

#include <gtest/gtest.h>

namespace sinkforge::base {
namespace {

bool IsAccepted(const char* address, Reach reach) {
  return CheckListenAddress(address, "--listen", reach).ok();
}

TEST(CheckListenAddressTest, LoopbackGoesByTheAddressAndNotByItsLook) {
  for (const char* address : {"127.0.0.1:0", "127.1.2.3:80", "localhost:1", "[::1]:1", "unix:/x"}) {
    EXPECT_TRUE(IsAccepted(address, Reach::kLoopback)) << address;
  }
  for (const char* address : {"127.example.com:0", "localhost.example.org:1", "0.0.0.0:0", "[::]:1",
                              "10.0.0.1:1", ":1"}) {
    EXPECT_FALSE(IsAccepted(address, Reach::kLoopback)) << address;
    EXPECT_TRUE(IsAccepted(address, Reach::kAnywhere)) << address;
  }
}

// Libraries take 99999 for 34463, and an address without a port for one with some other.
TEST(CheckListenAddressTest, WantsAPort) {
  for (const char* address : {"127.0.0.1", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:65536",
                              "127.0.0.1:99999", "127.0.0.1:http", "127.0.0.1:1 ", "[::1]", ""}) {
    EXPECT_FALSE(IsAccepted(address, Reach::kLoopback)) << address;
    EXPECT_FALSE(IsAccepted(address, Reach::kAnywhere)) << address;
  }
  EXPECT_TRUE(IsAccepted("127.0.0.1:65535", Reach::kLoopback));
}

TEST(CheckListenAddressTest, NamesFlagAndNextStep) {
  EXPECT_EQ(
      CheckListenAddress("localhost:-1", "--http", Reach::kLoopback).message(),
      "--http localhost:-1: give host:port, with a port of 1 to 65535, or 0 to get a free one");
  const std::string message(
      CheckListenAddress("0.0.0.0:1", "--metrics-listen", Reach::kLoopback).message());
  EXPECT_EQ(message.find("--metrics-listen 0.0.0.0:1: not a loopback address"), 0U) << message;
  EXPECT_NE(message.find("--insecure-listen"), std::string::npos);
}

}  // namespace
}  // namespace sinkforge::base
