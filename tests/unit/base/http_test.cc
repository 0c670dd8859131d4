// HttpServer as its callers see it: answers, and ends.
#include "base/http.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace sinkforge::base {
namespace {

HttpResponse Hello(const HttpRequest& request) { return {200, "text/plain", request.path}; }

int Connect(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

std::string Get(int port, const std::string& path) {
  const int fd = Connect(port);
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n";
  EXPECT_EQ(write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[1024];
  for (ssize_t got = 0; (got = read(fd, buffer, sizeof(buffer))) > 0;) {
    answer.append(buffer, static_cast<size_t>(got));
  }
  close(fd);
  return answer;
}

TEST(HttpServerTest, AnswersUntilItIsStoppedAndFreesItsPort) {
  for (const std::string host : {"127.0.0.1", "localhost", "0.0.0.0"}) {
    auto first = HttpServer::Start(host + ":0", "--http", Hello);
    ASSERT_TRUE(first.ok()) << first.status();
    const int port = (*first)->port();
    EXPECT_NE(Get(port, "/here").find("/here"), std::string::npos) << host;
    const auto taken = HttpServer::Start("127.0.0.1:" + std::to_string(port), "--http", Hello);
    EXPECT_NE(taken.status().message().find("in use"), std::string::npos);
    first->reset();
    const auto second = HttpServer::Start("127.0.0.1:" + std::to_string(port), "--http", Hello);
    ASSERT_TRUE(second.ok()) << second.status();
    EXPECT_NE(Get(port, "/there").find("/there"), std::string::npos);
  }
}

TEST(HttpServerTest, StopsWithAConnectionThatAsksNothing) {
  auto server = HttpServer::Start("127.0.0.1:0", "--http", Hello);
  ASSERT_TRUE(server.ok()) << server.status();
  const int idle = Connect((*server)->port());
  server->reset();
  char byte = 0;
  EXPECT_LE(read(idle, &byte, 1), 0) << "closed or reset, and not left open";
  close(idle);
}

}  // namespace
}  // namespace sinkforge::base
