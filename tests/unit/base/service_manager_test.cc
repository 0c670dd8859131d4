// What a service manager hears, on a socket of the test's own.
#include "base/service_manager.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace sinkforge::base {
namespace {

class ServiceManagerTest : public testing::Test {
 protected:
  void SetUp() override {
    fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ASSERT_GE(fd_, 0);
  }
  void TearDown() override {
    unsetenv("NOTIFY_SOCKET");
    if (fd_ >= 0) close(fd_);
    if (!path_.empty() && path_.front() == '/') unlink(path_.c_str());
  }

  // Binds to "/path" or "@abstract" and names it in the environment.
  void Listen(const std::string& path) {
    path_ = path;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    if (path.front() == '@') address.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    ASSERT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&address), length), 0);
    setenv("NOTIFY_SOCKET", path.c_str(), 1);
  }

  // One datagram, or "" where there is none.
  std::string Received() {
    char text[64];
    const ssize_t size = recv(fd_, text, sizeof(text), 0);
    return size < 0 ? "" : std::string(text, static_cast<size_t>(size));
  }

  int fd_ = -1;
  std::string path_;
};

TEST_F(ServiceManagerTest, HearsTheStateAtAPath) {
  Listen(testing::TempDir() + "/sinkforge-notify-" + std::to_string(getpid()));
  NotifyServiceManager("READY=1");
  EXPECT_EQ(Received(), "READY=1");
  EXPECT_EQ(Received(), "");
}

TEST_F(ServiceManagerTest, HearsTheStateAtAnAbstractAddress) {
  Listen("@sinkforge-notify-" + std::to_string(getpid()));
  NotifyServiceManager("STOPPING=1");
  EXPECT_EQ(Received(), "STOPPING=1");
}

TEST_F(ServiceManagerTest, ThatIsAwayOrMisnamedStopsNothing) {
  for (const std::string& path : std::vector<std::string>{"/nonexistent/socket", "relative",
                                                          "/" + std::string(200, 'x'), ""}) {
    setenv("NOTIFY_SOCKET", path.c_str(), 1);
    testing::internal::CaptureStderr();
    NotifyServiceManager("READY=1");
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(log.empty(), path.empty()) << log;
    EXPECT_NE(log.find(path), std::string::npos) << log;
  }
}

}  // namespace
}  // namespace sinkforge::base
