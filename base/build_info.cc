// The values come from CMake, for this file alone.
#include "base/build_info.h"

#include "absl/strings/str_cat.h"

namespace sinkforge::base {

BuildInfo ReadBuildInfo() {
  return {SINKFORGE_VERSION, "sinkforge.v1", SINKFORGE_BUILD_TYPE, SINKFORGE_COMPILER};
}

std::string VersionText(const std::string& program) {
  const BuildInfo info = ReadBuildInfo();
  return absl::StrCat(program, " ", info.version, " (protocol ", info.protocol, ", ",
                      info.build_type, ", ", info.compiler, ")");
}

}  // namespace sinkforge::base
