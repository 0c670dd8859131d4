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

void LogEvents(const Coordinator& coordinator, const Effects& effects) {
  for (const v1::Event& event : effects.events) {
    const v1::Job* job = coordinator.Find(event.job_id());
    base::LogFields about = {{"job", event.job_id()}, {"attempt", int64_t{event.attempt()}}};
    const auto place = effects.event_places.find({event.job_id(), event.sequence()});
    if (place != effects.event_places.end()) {
      if (place->second.rank) about.push_back({"rank", int64_t{*place->second.rank}});
      about.push_back({"worker", place->second.worker});
    }
    base::Log(base::Severity::kInfo,
              "job: " + Words(v1::EventKind_Name(event.kind()), "EVENT_KIND_"), about,
              {{"trace_id", job == nullptr ? "" : job->trace_id()},
               {"step", int64_t{event.step()}},
               {"reason", Words(v1::Reason_Name(event.reason()), "REASON_")},
               {"detail", event.message()}});
  }
}

}  // namespace sinkforge::server
