// Gauges of the fleet; see fleet_metrics.h.
#include "server/engine/fleet_metrics.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace sinkforge::server {
namespace {

// "JOB_STATE_QUEUED" without "JOB_STATE_" in lower case.
std::string Label(const std::string& name, const std::string& prefix) {
  return absl::AsciiStrToLower(absl::StripPrefix(name, prefix));
}

struct FleetView {
  std::array<int64_t, v1::JobState_ARRAYSIZE> jobs{};
  std::vector<v1::Worker> workers;
  double queue_oldest_seconds = 0;
};

FleetView Look(const Coordinator& coordinator, const base::Now& now) {
  FleetView view;
  view.jobs = coordinator.CountByState();
  view.workers = coordinator.Workers();
  coordinator.VisitJobs(std::numeric_limits<int64_t>::max(), [&](const v1::Job& job) {
    if (job.state() != v1::JOB_STATE_QUEUED) return true;
    const auto age = now.wall - base::FromProto(job.create_time());
    view.queue_oldest_seconds =
        std::max(view.queue_oldest_seconds, std::chrono::duration<double>(age).count());
    return true;
  });
  return view;
}

base::GaugeFamily JobFamily(const FleetView& view) {
  base::GaugeFamily family{"sinkforge_jobs", "Jobs by state", base::GaugeFamily::Type::kGauge, {}};
  for (int state = v1::JOB_STATE_QUEUED; state < v1::JobState_ARRAYSIZE; ++state) {
    const std::string name = v1::JobState_Name(static_cast<v1::JobState>(state));
    family.samples.push_back({{{"state", Label(name, "JOB_STATE_")}},
                              static_cast<double>(view.jobs[static_cast<size_t>(state)])});
  }
  return family;
}

base::GaugeFamily WorkerFamily(const FleetView& view) {
  base::GaugeFamily family{
      "sinkforge_workers", "Worker daemons by state", base::GaugeFamily::Type::kGauge, {}};
  for (int state = v1::WORKER_STATE_LIVE; state < v1::WorkerState_ARRAYSIZE; ++state) {
    const std::string name = v1::WorkerState_Name(static_cast<v1::WorkerState>(state));
    const auto count =
        std::count_if(view.workers.begin(), view.workers.end(),
                      [&](const v1::Worker& worker) { return worker.state() == state; });
    family.samples.push_back(
        {{{"state", Label(name, "WORKER_STATE_")}}, static_cast<double>(count)});
  }
  return family;
}

// Slots of workers that are not lost: used by a rank, free, or draining (free but not offered).
base::GaugeFamily SlotFamily(const FleetView& view) {
  std::map<std::pair<int, std::string>, double> counts;
  for (const int device : {v1::DEVICE_CPU, v1::DEVICE_CUDA}) {
    for (const char* state : {"used", "free", "draining"}) counts[{device, state}] = 0;
  }
  for (const v1::Worker& worker : view.workers) {
    if (worker.state() == v1::WORKER_STATE_LOST) continue;
    std::set<int32_t> used;
    for (const v1::SlotUse& use : worker.used()) used.insert(use.slot());
    const char* idle = worker.state() == v1::WORKER_STATE_DRAINING ? "draining" : "free";
    for (const v1::Slot& slot : worker.slots()) {
      const auto entry = counts.find({slot.device(), used.count(slot.index()) > 0 ? "used" : idle});
      if (entry != counts.end()) ++entry->second;
    }
  }
  base::GaugeFamily family{
      "sinkforge_slots", "Device slots of connected workers", base::GaugeFamily::Type::kGauge, {}};
  for (const auto& [key, count] : counts) {
    const std::string name = v1::Device_Name(static_cast<v1::Device>(key.first));
    family.samples.push_back({{{"device", Label(name, "DEVICE_")}, {"state", key.second}}, count});
  }
  return family;
}

}  // namespace

std::vector<base::GaugeFamily> CollectFleet(Engine* engine) {
  FleetView view;
  const absl::Status read = engine->ReadAndWait(
      [&](const Coordinator& coordinator, const base::Now& now) { view = Look(coordinator, now); });
  if (!read.ok()) return {};
  return {JobFamily(view),
          WorkerFamily(view),
          SlotFamily(view),
          {"sinkforge_queue_oldest_seconds",
           "How long the job that waits longest has existed; 0 without a waiting job",
           base::GaugeFamily::Type::kGauge,
           {{{}, view.queue_oldest_seconds}}}};
}

AttemptCounter::AttemptCounter(base::Metrics* metrics) {
  for (int i = 0; i < v1::Reason_ARRAYSIZE; ++i) {
    if (!v1::Reason_IsValid(i)) continue;
    const auto reason = static_cast<v1::Reason>(i);
    by_reason_[reason] =
        metrics->AddCounter("sinkforge_job_attempts_total", "Attempts that ended, by reason",
                            {{"reason", Label(v1::Reason_Name(reason), "REASON_")}});
  }
}

void AttemptCounter::Count(const std::vector<v1::Event>& events) {
  for (const v1::Event& event : events) {
    const auto counter = by_reason_.find(event.reason());
    if (event.kind() == v1::EVENT_KIND_ATTEMPT_ENDED && counter != by_reason_.end()) {
      counter->second->Increment();
    }
  }
}

}  // namespace sinkforge::server
