// The coordinator's page, embedded at build time.
#pragma once

#include <string_view>

namespace sinkforge::server {

extern const std::string_view kIndexHtml;
extern const std::string_view kAppJs;

}  // namespace sinkforge::server
