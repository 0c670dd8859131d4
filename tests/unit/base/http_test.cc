// HttpServer as its callers see it: answers, and ends.
#include "base/http.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "tests/unit/http_get.h"

namespace sinkforge::base {
namespace {

HttpResponse Hello(const HttpRequest& request) { return {200, "text/plain", request.path}; }

TEST(HttpServerTest, AnswersUntilItIsStoppedAndFreesItsPort) {
  for (const std::string host : {"127.0.0.1", "localhost", "0.0.0.0"}) {
    auto first = HttpServer::Start(host + ":0", "--http", Hello);
    ASSERT_TRUE(first.ok()) << first.status();
    const int port = (*first)->port();
    EXPECT_NE(HttpGet(port, "/here").find("/here"), std::string::npos) << host;
    const auto taken = HttpServer::Start("127.0.0.1:" + std::to_string(port), "--http", Hello);
    EXPECT_NE(taken.status().message().find("in use"), std::string::npos);
    first->reset();
    const auto second = HttpServer::Start("127.0.0.1:" + std::to_string(port), "--http", Hello);
    ASSERT_TRUE(second.ok()) << second.status();
    EXPECT_NE(HttpGet(port, "/there").find("/there"), std::string::npos);
  }
}

TEST(HttpServerTest, StopsWithAConnectionThatAsksNothing) {
  auto server = HttpServer::Start("127.0.0.1:0", "--http", Hello);
  ASSERT_TRUE(server.ok()) << server.status();
  const int port = (*server)->port();
  const int idle = ConnectTo(port);
  server->reset();
  // The connection may still have been in CivetWeb's queue, which leaves it to the process's end.
  const auto next = HttpServer::Start("127.0.0.1:" + std::to_string(port), "--http", Hello);
  EXPECT_TRUE(next.ok()) << next.status();
  close(idle);
}

}  // namespace
}  // namespace sinkforge::base
