// A sweep's result over its seeds: a row for each setting, with means and how far seeds differ.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/sweep_result.h"
#include "client/table.h"

namespace sinkforge::client {

struct MeanAndSpread {
  double mean = 0;
  double standard_deviation = 0;  // of a sample: the divisor is one less than the seeds
};

// Absent numbers: fewer than two succeeded jobs have them.
struct SeedsRow {
  SweepSettings settings;            // without train.seed
  std::vector<std::string> job_ids;  // one for each seed
  int64_t succeeded = 0;             // only these count below
  std::optional<MeanAndSpread> loss;
  std::optional<MeanAndSpread> validation_bits_per_byte;
  std::optional<MeanAndSpread> imbalance;
  std::optional<MeanAndSpread> importance_min;
  std::optional<MeanAndSpread> importance_max;
};

// A row for each setting that more than one seed has, in the order of their first jobs; none where
// the jobs have one seed each.
std::vector<SeedsRow> OverSeeds(const std::vector<SweepRow>& rows);

Table SeedsTable(const std::vector<SeedsRow>& rows);

}  // namespace sinkforge::client
