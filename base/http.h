// HttpServer: answers GET requests, for pages that people look at and for /metrics. CivetWeb behind
// a plain function; the only place that includes it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

struct mg_context;

namespace sinkforge::base {

struct HttpRequest {
  std::string path;                          // decoded: "/api/jobs"
  std::map<std::string, std::string> query;  // decoded; the last of equal names counts
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// Called on several threads at once; must not throw.
using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

class HttpServer {
 public:
  // Serves GET and HEAD on "host:port" until it is destroyed; port 0 picks one. Everything else
  // gets 405. Responses may not be framed, load nothing from elsewhere, and are not cached.
  // UNAVAILABLE: the address cannot be bound; the message names it and `flag`, which changes it.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address,
                                                           const std::string& flag,
                                                           HttpHandler handler);
  // Waits for the requests under way.
  ~HttpServer();

  int port() const { return port_; }

 private:
  explicit HttpServer(HttpHandler handler) : handler_(std::move(handler)) {}

  const HttpHandler handler_;
  mg_context* context_ = nullptr;
  std::string host_;
  int port_ = 0;
};

}  // namespace sinkforge::base
