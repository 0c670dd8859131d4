// The common options.
#include "client/common_options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sinkforge::client {

std::vector<Option> CommonOptions(const std::vector<std::string>& formats, GlobalOptions* global) {
  std::vector<Option> options = {
      {"--coordinator", "HOST:PORT",
       "Address; else $SINKFORGE_COORDINATOR, the local instance, 127.0.0.1:7070",
       &global->coordinator},
      {"--retry-for", "SECONDS", "How long to try again while the coordinator does not answer",
       &global->retry_seconds}};
  if (!formats.empty()) {
    options.push_back({"-o,--output", "FORMAT",
                       absl::StrCat("One of ", absl::StrJoin(formats, ", ")), &global->format,
                       formats});
  }
  return options;
}

}  // namespace sinkforge::client
