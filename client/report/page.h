// The report's page, embedded at build time.
#pragma once

#include <string_view>

namespace sinkforge::client {

// With {{style}}, {{chart}}, {{plots}}, {{report}} and {{data}} where these belong.
extern const std::string_view kReportHtml;
extern const std::string_view kReportJs;

}  // namespace sinkforge::client
