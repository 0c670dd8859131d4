// The grid of a sweep: which jobs it consists of. Pure.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::client {

struct SweepPoint {
  std::vector<std::string> assignments;  // "model.attention=gated", in the grid's order
  std::string suffix;                    // for the job's name: "gated-s1"
};

inline constexpr int kSweepJobsMax = 1000;

// Every combination; the last axis changes fastest, and the seeds are the last axis. `grid`:
// "key=v1,v2" (commas inside [] do not separate); `seeds`: "1,2,3" or empty. Usage errors.
absl::StatusOr<std::vector<SweepPoint>> ExpandGrid(const std::vector<std::string>& grid,
                                                   const std::string& seeds);

// "<base>-<suffix>", cut to what a job's name may be.
std::string SweepJobName(const std::string& base, const std::string& suffix);

// Every key of the job file with its value, in the file's order: {"model.width", "64"}.
std::vector<std::pair<std::string, std::string>> FlattenJob(const v1::JobSpec& spec);

// The keys (without `name`) whose values are not the same in all jobs, in the order of submission:
// those first that change least often from one job to the next, which is the order of a grid's
// axes; among equals in the file's order.
std::vector<std::string> VaryingKeys(const std::vector<v1::JobSpec>& specs);

}  // namespace sinkforge::client
