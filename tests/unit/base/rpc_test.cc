// The status mapping keeps reasons and violations over the wire; a server refuses what it must.
#include "base/rpc.h"

#include <gtest/gtest.h>

namespace sinkforge::base {
namespace {

TEST(StatusMappingTest, KeepsCodeMessageReasonAndViolations) {
  absl::Status status = absl::InvalidArgumentError("job file: 1 error");
  status = WithReason(status, "INVALID_JOB");
  status = WithViolations(status, {{"model.width", "must be divisible by heads"}});
  const absl::Status back = FromGrpc(ToGrpc(status));
  EXPECT_EQ(back.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(back.message(), status.message());
  EXPECT_EQ(ReasonOf(back), "INVALID_JOB");
  ASSERT_EQ(ViolationsOf(back).size(), 1U);
  EXPECT_EQ(ViolationsOf(back)[0].field, "model.width");
}

TEST(StatusMappingTest, MapsEveryCodeToItself) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "m");
    EXPECT_EQ(static_cast<int>(FromGrpc(ToGrpc(status)).code()), code);
  }
}

TEST(StartServerTest, RefusesOtherThanLoopbackUnlessTold) {
  ServerOptions options;
  options.address = "0.0.0.0:0";
  const auto server = StartServer(options);
  ASSERT_FALSE(server.ok());
  EXPECT_NE(std::string(server.status().message()).find("--insecure-listen"), std::string::npos);
}

TEST(StartServerTest, DoesNotShareAPort) {
  ServerOptions options;
  options.address = "127.0.0.1:0";
  const auto first = StartServer(options);
  ASSERT_TRUE(first.ok()) << first.status();
  options.address = "127.0.0.1:" + std::to_string(first->port);
  testing::internal::CaptureStderr();
  const auto second = StartServer(options);
  // The caller's error says all of it.
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(std::string(second.status().message()).find(options.address), std::string::npos);
}

}  // namespace
}  // namespace sinkforge::base
