// Gauges of the fleet; see fleet_metrics.h.
#include "server/engine/fleet_metrics.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
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

// Why a job can be in the queue; the only values of the label.
constexpr std::array<v1::Reason, 7> kQueueReasons = {v1::REASON_WAITING_FOR_SLOTS,
                                                     v1::REASON_BEHIND_OTHER_JOB,
                                                     v1::REASON_NOT_ENOUGH_SLOTS_EXIST,
                                                     v1::REASON_WAITING_FOR_CHECKPOINT_HOLDER,
                                                     v1::REASON_BACKING_OFF,
                                                     v1::REASON_WAITING_FOR_QUOTA,
                                                     v1::REASON_WAITING_FOR_SWEEP};

// How an attempt can end: the values that are there from the start, so that the first one of a kind
// is an increase. COMPLETED and the stops that were asked for, then the faults.
constexpr std::array<v1::Reason, 20> kAttemptEnds = {v1::REASON_COMPLETED,
                                                     v1::REASON_PAUSE_REQUESTED,
                                                     v1::REASON_RESUMED_BY_USER,
                                                     v1::REASON_CANCELLED_BY_USER,
                                                     v1::REASON_DEADLINE_EXCEEDED,
                                                     v1::REASON_PREEMPTED,
                                                     v1::REASON_LENT_SLOTS_TAKEN_BACK,
                                                     v1::REASON_RESIZED,
                                                     v1::REASON_WORKER_DRAINING,
                                                     v1::REASON_WORKER_LOST,
                                                     v1::REASON_RANK_LOST,
                                                     v1::REASON_TRAINER_CRASHED,
                                                     v1::REASON_NO_PROGRESS,
                                                     v1::REASON_START_TIMEOUT,
                                                     v1::REASON_BAD_JOB,
                                                     v1::REASON_BAD_DATA,
                                                     v1::REASON_NON_FINITE_LOSS,
                                                     v1::REASON_LOSS_SPIKE,
                                                     v1::REASON_CHECKPOINT_FAILED,
                                                     v1::REASON_CHECKPOINT_LOST};

// From a free slot's tenth of a second to a queue of days.
const std::vector<double> kWaitBounds = {0.1, 0.5, 1,    5,     15,    60,
                                         300, 900, 3600, 14400, 86400, 604800};

struct FleetView {
  std::array<int64_t, v1::JobState_ARRAYSIZE> jobs{};
  std::map<v1::Reason, int64_t> queued;
  std::vector<v1::Worker> workers;
  double queue_oldest_seconds = 0;
  std::map<std::string, double> seconds;  // of all jobs, by what they were spent on
};

FleetView Look(const Coordinator& coordinator, const base::Now& now) {
  FleetView view;
  view.jobs = coordinator.CountByState();
  view.workers = coordinator.Workers();
  coordinator.VisitJobs(std::numeric_limits<int64_t>::max(), [&](const v1::Job& job) {
    const v1::TimeLedger& time = job.time();
    view.seconds["queue"] += time.queue();
    view.seconds["start"] += time.start();
    view.seconds["train"] += time.train();
    view.seconds["replay"] += time.replay();
    view.seconds["detect"] += time.detect();
    view.seconds["checkpoint_stall"] += time.checkpoint_stall();
    view.seconds["stall"] += time.stall();
    if (job.state() != v1::JOB_STATE_QUEUED) return true;
    ++view.queued[coordinator.Explain(job.job_id(), now).reason];
    const auto age = now.wall - base::FromProto(job.create_time());
    view.queue_oldest_seconds =
        std::max(view.queue_oldest_seconds, std::chrono::duration<double>(age).count());
    return true;
  });
  return view;
}

base::GaugeFamily JobFamily(const FleetView& view) {
  base::GaugeFamily family{"sinkforge_jobs", "Jobs by state.", base::GaugeFamily::Type::kGauge, {}};
  for (int state = v1::JOB_STATE_QUEUED; state < v1::JobState_ARRAYSIZE; ++state) {
    const std::string name = v1::JobState_Name(static_cast<v1::JobState>(state));
    family.samples.push_back({{{"state", Label(name, "JOB_STATE_")}},
                              static_cast<double>(view.jobs[static_cast<size_t>(state)])});
  }
  return family;
}

base::GaugeFamily QueueFamily(const FleetView& view) {
  base::GaugeFamily family{"sinkforge_queued_jobs",
                           "Queued jobs by what they wait for.",
                           base::GaugeFamily::Type::kGauge,
                           {}};
  for (const v1::Reason reason : kQueueReasons) {
    const auto found = view.queued.find(reason);
    const double count = found == view.queued.end() ? 0 : static_cast<double>(found->second);
    family.samples.push_back({{{"reason", Label(v1::Reason_Name(reason), "REASON_")}}, count});
  }
  return family;
}

// A lost worker that a user has drained is known to be away: nobody needs to look for it.
v1::WorkerState CountedState(const v1::Worker& worker) {
  const bool is_known = worker.state() == v1::WORKER_STATE_LOST && worker.has_drain();
  return is_known ? v1::WORKER_STATE_DRAINED : worker.state();
}

base::GaugeFamily WorkerFamily(const FleetView& view) {
  base::GaugeFamily family{
      "sinkforge_workers", "Worker daemons by state.", base::GaugeFamily::Type::kGauge, {}};
  for (int state = v1::WORKER_STATE_LIVE; state < v1::WorkerState_ARRAYSIZE; ++state) {
    const std::string name = v1::WorkerState_Name(static_cast<v1::WorkerState>(state));
    const auto count =
        std::count_if(view.workers.begin(), view.workers.end(),
                      [&](const v1::Worker& worker) { return CountedState(worker) == state; });
    family.samples.push_back(
        {{{"state", Label(name, "WORKER_STATE_")}}, static_cast<double>(count)});
  }
  return family;
}

// Slots of workers that are there: used by a rank, free, or draining (free but not offered).
base::GaugeFamily SlotFamily(const FleetView& view) {
  std::map<std::pair<int, std::string>, double> counts;
  for (const int device : {v1::DEVICE_CPU, v1::DEVICE_CUDA}) {
    for (const char* state : {"used", "free", "draining"}) counts[{device, state}] = 0;
  }
  for (const v1::Worker& worker : view.workers) {
    if (worker.state() == v1::WORKER_STATE_LOST || worker.state() == v1::WORKER_STATE_STOPPED) {
      continue;
    }
    std::set<int32_t> used;
    for (const v1::SlotUse& use : worker.used()) used.insert(use.slot());
    const char* idle = worker.state() == v1::WORKER_STATE_LIVE ? "free" : "draining";
    for (const v1::Slot& slot : worker.slots()) {
      const auto entry = counts.find({slot.device(), used.count(slot.index()) > 0 ? "used" : idle});
      if (entry != counts.end()) ++entry->second;
    }
  }
  base::GaugeFamily family{
      "sinkforge_slots", "Device slots of connected workers.", base::GaugeFamily::Type::kGauge, {}};
  for (const auto& [key, count] : counts) {
    const std::string name = v1::Device_Name(static_cast<v1::Device>(key.first));
    family.samples.push_back({{{"device", Label(name, "DEVICE_")}, {"state", key.second}}, count});
  }
  return family;
}

base::GaugeFamily TimeFamily(const FleetView& view) {
  base::GaugeFamily family{
      "sinkforge_job_time_seconds",
      "Time of all jobs that are kept, by what it was spent on; train over the "
      "sum is the goodput.",
      base::GaugeFamily::Type::kGauge,
      {}};
  for (const auto& [spent_on, seconds] : view.seconds) {
    family.samples.push_back({{{"spent_on", spent_on}}, seconds});
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
          QueueFamily(view),
          WorkerFamily(view),
          SlotFamily(view),
          TimeFamily(view),
          {"sinkforge_queue_oldest_seconds",
           "How long the job that waits longest has existed; 0 without a waiting job.",
           base::GaugeFamily::Type::kGauge,
           {{{}, view.queue_oldest_seconds}}}};
}

AttemptMetrics::AttemptMetrics(base::Metrics* metrics)
    : metrics_(metrics),
      wait_seconds_(metrics->AddHistogram(
          "sinkforge_job_wait_seconds",
          "Time from the submission of a job to the start of its first attempt.", {},
          kWaitBounds)) {
  for (const v1::Reason reason : kAttemptEnds) CounterOf(reason);
}

base::Counter* AttemptMetrics::CounterOf(v1::Reason reason) {
  base::Counter*& counter = by_reason_[reason];
  if (counter == nullptr) {
    counter =
        metrics_->AddCounter("sinkforge_job_attempts_total", "Attempts that ended, by reason.",
                             {{"reason", Label(v1::Reason_Name(reason), "REASON_")}});
  }
  return counter;
}

void AttemptMetrics::Observe(const Coordinator& coordinator, const std::vector<v1::Event>& events) {
  for (const v1::Event& event : events) {
    if (event.kind() == v1::EVENT_KIND_ATTEMPT_ENDED) CounterOf(event.reason())->Increment();
    const v1::Job* job = coordinator.Find(event.job_id());
    if (event.kind() == v1::EVENT_KIND_ATTEMPT_STARTED && event.attempt() == 1 && job != nullptr) {
      const auto wait = base::FromProto(event.time()) - base::FromProto(job->create_time());
      wait_seconds_->Observe(std::chrono::duration<double>(wait).count());
    }
  }
}

}  // namespace sinkforge::server
