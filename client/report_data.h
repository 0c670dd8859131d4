// What a report shows of jobs, as the coordinator knows it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/coordinator.h"

namespace sinkforge::client {

// Importance of every head at one step, [layers][heads]; NaN where nothing is known.
struct HeadSnapshot {
  int64_t step = 0;
  std::vector<std::vector<double>> importance;
};

struct JobReport {
  v1::Job job;
  v1::QueryMetricsResponse history;     // the report's series
  v1::QueryMetricsResponse last_steps;  // one point each: means over the last 10 steps
  std::vector<HeadSnapshot> heads;      // at the first, middle and last step of the history
  std::vector<v1::Worker> workers;      // those that ran it or hold its checkpoints, by name
};

enum class ReportDetail { kForFigures, kEveryStep };

// NOT_FOUND; the coordinator's errors.
absl::StatusOr<std::vector<JobReport>> CollectReport(Coordinator& coordinator,
                                                     const std::vector<std::string>& job_ids,
                                                     ReportDetail detail);

// The points of a series of the history; none where it is absent.
const v1::Series& SeriesOf(const v1::QueryMetricsResponse& response, const std::string& name);

}  // namespace sinkforge::client
