// The result of a sweep: a row for each job, from the metric history.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "client/coordinator.h"
#include "client/table.h"

namespace sinkforge::client {

inline constexpr int64_t kTailSteps = 10;  // the noise of single steps averages out, no trend does

// The keys that vary in a sweep with a job's values, in the order of the grid.
using SweepSettings = std::vector<std::pair<std::string, std::string>>;

// Absent numbers: the job has no such points (yet).
struct SweepRow {
  v1::Job job;
  SweepSettings settings;
  std::optional<double> loss;                      // mean over the last kTailSteps steps
  std::optional<double> imbalance;                 // the same
  std::optional<double> importance_min;            // of the smallest head
  std::optional<double> importance_max;            // of the largest head
  std::optional<double> validation_bits_per_byte;  // of the last validation
  std::optional<double> tokens_per_second;         // mean over all steps
};

// In the order of submission. NOT_FOUND: no job belongs to the sweep.
absl::StatusOr<std::vector<SweepRow>> ReadSweep(Coordinator& coordinator, const std::string& sweep);

// A column for each of these keys; "head_balance.loss" is "loss" where no other column has that
// name.
std::vector<Table::Column> SettingColumns(const SweepSettings& settings);

Table SweepTable(const std::vector<SweepRow>& rows);
// The jobs, and the means over seeds (sweep_seeds.h).
std::string SweepJson(const std::string& sweep, const std::vector<SweepRow>& rows);

}  // namespace sinkforge::client
