// Events as log lines; see event_log.h.
#include "server/engine/event_log.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/log.h"

namespace sinkforge::server {
namespace {

// "EVENT_KIND_ATTEMPT_STARTED" -> "attempt started"
std::string Words(const std::string& name, const std::string& prefix) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(absl::StripPrefix(name, prefix)), {{"_", " "}});
}

}  // namespace

void LogEvents(const Coordinator& coordinator, const std::vector<v1::Event>& events) {
  for (const v1::Event& event : events) {
    const v1::Job* job = coordinator.Find(event.job_id());
    base::LogInfo("job: " + Words(v1::EventKind_Name(event.kind()), "EVENT_KIND_"),
                  {{"job", event.job_id()},
                   {"attempt", int64_t{event.attempt()}},
                   {"trace_id", job == nullptr ? "" : job->trace_id()},
                   {"step", int64_t{event.step()}},
                   {"reason", Words(v1::Reason_Name(event.reason()), "REASON_")},
                   {"detail", event.message()}});
  }
}

}  // namespace sinkforge::server
