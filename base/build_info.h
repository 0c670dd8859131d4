// What a program says of itself for --version.
#pragma once

#include <string>

namespace sinkforge::base {

struct BuildInfo {
  std::string version;
  std::string protocol;
  std::string build_type;  // "release"
  std::string compiler;    // "GNU 12.2.0"
};

BuildInfo ReadBuildInfo();

// "sinkforge-worker 0.1.0 (protocol sinkforge.v1, release, GNU 12.2.0)".
std::string VersionText(const std::string& program);

}  // namespace sinkforge::base
