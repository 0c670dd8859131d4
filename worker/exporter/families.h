// What /metrics of a worker shows: pure functions from what is known to metric families. Jobs are
// shown by the worker of their rank 0 only, while it runs there: kSeriesOfAJobMax series for each,
// one more a layer, and one more a head where the importance of every head is asked for.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "worker/agent/agent.h"
#include "worker/store/step_spool.h"

namespace sinkforge::worker {

// Whether the importance of every head is a series (layers x heads of them for each job), or only
// its smallest and largest value.
enum class ImportanceSeries { kExtremes, kEveryHead };

inline constexpr int kSeriesOfAJobMax = 19;

std::vector<base::GaugeFamily> JobFamilies(const std::vector<RankView>& ranks,
                                           ImportanceSeries importance);

struct WorkerReadings {
  std::string version;
  int64_t slots = 0;
  int64_t slots_busy = 0;
  SpoolSize steps;
  SpoolSize logs;
  int64_t checkpoint_bytes = 0;
  int64_t disk_free_bytes = 0;
  int64_t coordinator_connected = 0;  // 0 or 1
  int64_t databases_set_aside = 0;    // because of damaged files
  int64_t trainers_started = 0;
  int64_t log_lines_dropped = 0;
  std::map<std::string, int64_t> trainer_exits;  // by reason
};

std::vector<base::GaugeFamily> WorkerFamilies(const WorkerReadings& readings);

// "completed", "stopped", "killed", or the reason of a failure: "trainer_crashed".
std::string ExitReason(const v1::RankStatus& status);

}  // namespace sinkforge::worker
