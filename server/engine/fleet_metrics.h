// FleetMetrics: what /metrics says about jobs, workers and slots as a whole. No job or worker is a
// label: their number has no bound.
#pragma once

#include <map>
#include <vector>

#include "base/metrics.h"
#include "server/engine/engine.h"

namespace sinkforge::server {

// Gauges of the moment; asks the engine, and is empty where it does not answer. Families:
// sinkforge_jobs{state}, sinkforge_workers{state}, sinkforge_slots{device,state},
// sinkforge_queue_oldest_seconds.
std::vector<base::GaugeFamily> CollectFleet(Engine* engine);

// Counts ended attempts by reason: sinkforge_job_attempts_total{reason}. Engine's thread.
class AttemptCounter {
 public:
  explicit AttemptCounter(base::Metrics* metrics);
  void Count(const std::vector<v1::Event>& events);

 private:
  std::map<v1::Reason, base::Counter*> by_reason_;
};

}  // namespace sinkforge::server
