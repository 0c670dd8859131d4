// CivetWeb behind HttpServer; see http.h.
#include "base/http.h"

#include <civetweb.h>

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/mutex.h"

namespace sinkforge::base {
namespace {

// Requests are short, and a browser makes up to six at a time. Each has a connection of its own:
// kept ones would each hold a thread while they are idle, and the next request would wait for it.
// One on which nothing is asked holds a thread for its timeout, so that there are many more.
constexpr char kThreads[] = "64";
constexpr char kRequestTimeoutMs[] = "5000";
constexpr size_t kQueryBytesMax = 16 << 10;
constexpr std::chrono::milliseconds kWakeInterval{5};

std::string Decode(const std::string& text, int is_form) {
  std::vector<char> decoded(text.size() + 1);
  const int length = mg_url_decode(text.data(), static_cast<int>(text.size()), decoded.data(),
                                   static_cast<int>(decoded.size()), is_form);
  return length < 0 ? std::string() : std::string(decoded.data(), static_cast<size_t>(length));
}

HttpRequest MakeRequest(const mg_request_info& info) {
  HttpRequest request;
  request.path = info.local_uri == nullptr ? "/" : info.local_uri;
  if (info.query_string == nullptr) return request;
  for (const auto& field : absl::StrSplit(std::string(info.query_string), '&', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(field, absl::MaxSplits('=', 1));
    request.query[Decode(pair.first, 1)] = Decode(pair.second, 1);
  }
  return request;
}

HttpResponse Answer(const mg_request_info& info, const HttpHandler& handler) {
  const std::string method = info.request_method;
  if (method != "GET" && method != "HEAD") {
    return {405, "text/plain; charset=utf-8", "only GET: this page changes nothing\n"};
  }
  if (info.query_string != nullptr && std::string(info.query_string).size() > kQueryBytesMax) {
    return {414, "text/plain; charset=utf-8", "the query is too long\n"};
  }
  return handler(MakeRequest(info));
}

int Handle(mg_connection* connection, void* handler) {
  const mg_request_info& info = *mg_get_request_info(connection);
  const HttpResponse response = Answer(info, *static_cast<const HttpHandler*>(handler));
  const std::string head = absl::StrCat(
      "HTTP/1.1 ", response.status, " ", mg_get_response_code_text(connection, response.status),
      "\r\nContent-Type: ", response.content_type, "\r\nContent-Length: ", response.body.size(),
      "\r\nConnection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff"
      "\r\nReferrer-Policy: no-referrer"
      // Styles set by scripts (the plots) are not inline styles to a browser.
      "\r\nContent-Security-Policy: default-src 'self'; img-src 'self' data:; "
      "frame-ancestors 'none'\r\n\r\n");
  mg_write(connection, head.data(), head.size());
  if (std::string(info.request_method) != "HEAD") {
    mg_write(connection, response.body.data(), response.body.size());
  }
  return response.status;
}

// mg_stop sets a flag and waits until the accepting thread has seen it, which looks only between
// two polls of 2 seconds (SOCKET_TIMEOUT_QUANTUM). A connection ends the poll. They are made until
// mg_stop is back, because the first may come before the flag is set.
void StopAtOnce(mg_context* context, const std::string& host, int port) {
  Mutex mutex;
  CondVar changed;
  bool is_stopped = false;
  std::thread waker([&] {
    char error[100];
    MutexLock lock(&mutex);
    while (!is_stopped) {
      mg_connection* connection =
          mg_connect_client(host.c_str(), port, /*use_ssl=*/0, error, sizeof(error));
      // None where it listens no more.
      if (connection != nullptr) mg_close_connection(connection);
      changed.WaitFor(&lock, kWakeInterval);
    }
  });
  mg_stop(context);
  {
    const MutexLock lock(&mutex);
    is_stopped = true;
    changed.NotifyAll();
  }
  waker.join();
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address,
                                                              const std::string& flag,
                                                              HttpHandler handler) {
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(handler)));
  mg_init_library(0);
  // CivetWeb binds numbers only.
  std::string numeric = address;
  if (numeric.rfind("localhost:", 0) == 0) numeric.replace(0, 9, "127.0.0.1");
  const char* options[] = {
      "listening_ports",    numeric.c_str(),   "num_threads", kThreads, "enable_keep_alive", "no",
      "request_timeout_ms", kRequestTimeoutMs, nullptr};
  const mg_callbacks callbacks{};
  server->context_ = mg_start(&callbacks, nullptr, options);
  mg_server_port port{};
  if (server->context_ == nullptr || mg_get_server_ports(server->context_, 1, &port) < 1) {
    return absl::UnavailableError(absl::StrCat("address ", address,
                                               ": cannot be bound (in use?); choose another with ",
                                               flag, ", port 0 picks a free one"));
  }
  server->host_ = numeric.substr(0, numeric.rfind(':'));
  server->port_ = port.port;
  mg_set_request_handler(server->context_, "/", Handle,
                         const_cast<HttpHandler*>(&server->handler_));
  return server;
}

HttpServer::~HttpServer() {
  if (context_ != nullptr) StopAtOnce(context_, host_, port_);
  mg_exit_library();
}

}  // namespace sinkforge::base
