// Means over the seeds of a sweep.
#include "client/sweep_seeds.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/format.h"

namespace sinkforge::client {
namespace {

constexpr const char* kSeedKey = "train.seed";

std::optional<MeanAndSpread> Summarize(const std::vector<const SweepRow*>& jobs,
                                       std::optional<double> SweepRow::*number) {
  std::vector<double> values;
  for (const SweepRow* job : jobs) {
    if ((job->*number).has_value()) values.push_back(*(job->*number));
  }
  if (values.size() < 2) return std::nullopt;
  const auto count = static_cast<double>(values.size());
  MeanAndSpread result;
  for (double value : values) result.mean += value / count;
  double squares = 0;
  for (double value : values) squares += (value - result.mean) * (value - result.mean);
  result.standard_deviation = std::sqrt(squares / (count - 1));
  return result;
}

// The deviation has as many decimals as the mean, where that is no power of ten.
std::string Cell(const std::optional<MeanAndSpread>& value) {
  if (!value.has_value()) return "-";
  const std::string mean = FormatNumber(value->mean);
  const size_t point = mean.find('.');
  if (point == std::string::npos || mean.find('e') != std::string::npos) {
    return absl::StrCat(mean, " ± ", FormatNumber(value->standard_deviation));
  }
  const auto decimals = static_cast<int>(mean.size() - point - 1);
  return absl::StrFormat("%s ± %.*f", mean, decimals, value->standard_deviation);
}

}  // namespace

std::vector<SeedsRow> OverSeeds(const std::vector<SweepRow>& rows) {
  struct Group {
    SeedsRow row;
    std::vector<const SweepRow*> succeeded;
  };
  std::vector<Group> groups;
  for (const SweepRow& job : rows) {
    auto settings = job.settings;
    const auto is_seed = [](const auto& setting) { return setting.first == kSeedKey; };
    if (std::erase_if(settings, is_seed) == 0) continue;
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const Group& g) { return g.row.settings == settings; });
    if (group == groups.end()) {
      group = groups.emplace(groups.end());
      group->row.settings = std::move(settings);
    }
    group->row.job_ids.push_back(job.job.job_id());
    if (job.job.state() == v1::JOB_STATE_SUCCEEDED) group->succeeded.push_back(&job);
  }
  std::vector<SeedsRow> result;
  for (Group& group : groups) {
    if (group.row.job_ids.size() < 2) continue;
    SeedsRow& row = group.row;
    row.succeeded = static_cast<int64_t>(group.succeeded.size());
    row.loss = Summarize(group.succeeded, &SweepRow::loss);
    row.validation_bits_per_byte = Summarize(group.succeeded, &SweepRow::validation_bits_per_byte);
    row.imbalance = Summarize(group.succeeded, &SweepRow::imbalance);
    row.importance_min = Summarize(group.succeeded, &SweepRow::importance_min);
    row.importance_max = Summarize(group.succeeded, &SweepRow::importance_max);
    result.push_back(std::move(row));
  }
  return result;
}

Table SeedsTable(const std::vector<SeedsRow>& rows) {
  std::vector<Table::Column> columns;
  if (!rows.empty()) columns = SettingColumns(rows.front().settings);
  for (const char* title :
       {"SEEDS", "LOSS", "BITS/BYTE", "IMBALANCE", "MIN IMPORTANCE", "MAX IMPORTANCE"}) {
    columns.push_back({title, Table::Align::kRight});
  }
  Table table(std::move(columns));
  for (const SeedsRow& row : rows) {
    std::vector<std::string> cells;
    for (const auto& [key, value] : row.settings) cells.push_back(value);
    cells.push_back(absl::StrCat(row.succeeded, "/", row.job_ids.size()));
    for (const auto* number : {&row.loss, &row.validation_bits_per_byte, &row.imbalance,
                               &row.importance_min, &row.importance_max}) {
      cells.push_back(Cell(*number));
    }
    table.AddRow(std::move(cells));
  }
  return table;
}

}  // namespace sinkforge::client
