// FleetMetrics: what /metrics says about jobs, workers and slots as a whole. No job or worker is a
// label: their number has no bound.
#pragma once

#include <map>
#include <vector>

#include "base/metrics.h"
#include "server/engine/engine.h"

namespace sinkforge::server {

// Gauges of the moment; asks the engine, and is empty where it does not answer. Families:
// sinkforge_jobs{state}, sinkforge_queued_jobs{reason}, sinkforge_workers{state},
// sinkforge_slots{device,state}, sinkforge_queue_oldest_seconds.
std::vector<base::GaugeFamily> CollectFleet(Engine* engine);

// What attempts leave behind, on the engine's thread: ended ones by reason
// (sinkforge_job_attempts_total{reason}), and how long jobs wait from their submission to their
// first attempt (sinkforge_job_wait_seconds).
class AttemptMetrics {
 public:
  explicit AttemptMetrics(base::Metrics* metrics);
  // The events of one commit, which `coordinator` has made already.
  void Observe(const Coordinator& coordinator, const std::vector<v1::Event>& events);

 private:
  base::Counter* CounterOf(v1::Reason reason);

  base::Metrics* const metrics_;
  std::map<v1::Reason, base::Counter*> by_reason_;
  base::Histogram* const wait_seconds_;
};

}  // namespace sinkforge::server
