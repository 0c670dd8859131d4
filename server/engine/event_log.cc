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

const char* WordsOf(WorkerNote::Kind kind) {
  switch (kind) {
    case WorkerNote::Kind::kJoined:
      return "worker: joined";
    case WorkerNote::Kind::kReturned:
      return "worker: returned";
    case WorkerNote::Kind::kLost:
      return "worker: lost";
    case WorkerNote::Kind::kLeft:
      return "worker: left";
    case WorkerNote::Kind::kForgotten:
      return "worker: forgotten";
  }
  return "worker";
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
  for (const WorkerNote& note : effects.worker_notes) {
    const bool is_loss = note.kind == WorkerNote::Kind::kLost;
    base::Log(is_loss ? base::Severity::kWarning : base::Severity::kInfo, WordsOf(note.kind),
              {{"worker", note.worker}},
              {{"address", note.address}, {"slots", int64_t{note.slots}}});
  }
}

}  // namespace sinkforge::server
