// The result of a sweep.
#include "client/sweep_result.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/format.h"
#include "client/json_text.h"
#include "client/sweep_grid.h"
#include "client/sweep_seeds.h"

namespace sinkforge::client {
namespace {

struct Statistics {
  double sum = 0;
  int64_t count = 0;
};

using SeriesStatistics = std::map<std::string, Statistics>;

absl::StatusOr<SeriesStatistics> Query(Coordinator& coordinator, const std::string& job_id,
                                       const std::vector<std::string>& series, int64_t first_step,
                                       int64_t last_step) {
  v1::QueryMetricsRequest request;
  request.set_job_id(job_id);
  for (const std::string& name : series) request.add_series(name);
  request.set_first_step(first_step);
  request.set_last_step(last_step);
  const auto response = coordinator.QueryMetrics(request);
  if (!response.ok()) return response.status();
  SeriesStatistics result;
  for (const v1::Series& found : response->series()) {
    Statistics& all = result[found.name()];
    for (const v1::Point& point : found.points()) {
      const int64_t count = std::max<int64_t>(1, point.count());
      all.sum += point.value() * static_cast<double>(count);
      all.count += count;
    }
  }
  return result;
}

std::optional<double> Mean(const SeriesStatistics& statistics, const std::string& series) {
  const auto found = statistics.find(series);
  if (found == statistics.end() || found->second.count == 0) return std::nullopt;
  return found->second.sum / static_cast<double>(found->second.count);
}

absl::Status FillNumbers(Coordinator& coordinator, SweepRow* row) {
  const v1::JobProgress& progress = row->job.progress();
  if (progress.step() == 0) return absl::OkStatus();
  const std::string& id = row->job.job_id();
  const int64_t tail_start = std::max<int64_t>(1, progress.step() - kTailSteps + 1);
  const auto tail =
      Query(coordinator, id, {"loss", "imbalance", "importance_min", "importance_max"}, tail_start,
            progress.step());
  if (!tail.ok()) return tail.status();
  row->loss = Mean(*tail, "loss");
  row->imbalance = Mean(*tail, "imbalance");
  row->importance_min = Mean(*tail, "importance_min");
  row->importance_max = Mean(*tail, "importance_max");
  const auto whole = Query(coordinator, id, {"tokens_per_second"}, 0, 0);
  if (!whole.ok()) return whole.status();
  row->tokens_per_second = Mean(*whole, "tokens_per_second");
  if (progress.validation_step() > 0) {
    const auto validation = Query(coordinator, id, {"validation_bits_per_byte"},
                                  progress.validation_step(), progress.validation_step());
    if (!validation.ok()) return validation.status();
    row->validation_bits_per_byte = Mean(*validation, "validation_bits_per_byte");
  }
  return absl::OkStatus();
}

std::string Cell(const std::optional<double>& value) {
  return value.has_value() ? FormatNumber(*value) : "-";
}

nlohmann::json JsonNumber(const std::optional<double>& value) {
  return value.has_value() ? nlohmann::json(*value) : nlohmann::json();
}

nlohmann::ordered_json JsonNumber(const std::optional<MeanAndSpread>& value) {
  if (!value.has_value()) return {};
  return {{"mean", value->mean}, {"standard_deviation", value->standard_deviation}};
}

nlohmann::ordered_json JsonSettings(const SweepSettings& settings) {
  auto json = nlohmann::ordered_json::object();
  for (const auto& [key, value] : settings) json[key] = value;
  return json;
}

// What a job's row and a row over seeds both have.
template <typename Row>
void AddNumbers(const Row& row, nlohmann::ordered_json* entry) {
  (*entry)["loss"] = JsonNumber(row.loss);
  (*entry)["validation_bits_per_byte"] = JsonNumber(row.validation_bits_per_byte);
  (*entry)["imbalance"] = JsonNumber(row.imbalance);
  (*entry)["importance_min"] = JsonNumber(row.importance_min);
  (*entry)["importance_max"] = JsonNumber(row.importance_max);
}

}  // namespace

absl::StatusOr<std::vector<SweepRow>> ReadSweep(Coordinator& coordinator,
                                                const std::string& sweep) {
  v1::ListJobsRequest request;
  request.set_sweep(sweep);
  auto list = coordinator.ListJobs(request, kSweepJobsMax);
  if (!list.ok()) return list.status();
  if (list->jobs().empty()) {
    return absl::NotFoundError(
        absl::StrCat("sweep ", sweep,
                     ": no job belongs to it; `sinkforge list -o json` shows the sweep of each"));
  }
  std::vector<SweepRow> rows;
  std::vector<v1::JobSpec> specs;
  for (auto it = list->jobs().rbegin(); it != list->jobs().rend(); ++it) {  // newest first
    specs.push_back(it->spec());
    rows.emplace_back();
    rows.back().job = *it;
  }
  const std::vector<std::string> keys = VaryingKeys(specs);
  for (SweepRow& row : rows) {
    const auto flat = FlattenJob(row.job.spec());
    for (const std::string& key : keys) {
      const auto found = std::find_if(flat.begin(), flat.end(),
                                      [&](const auto& entry) { return entry.first == key; });
      row.settings.emplace_back(key, found == flat.end() ? "-" : found->second);
    }
    const absl::Status status = FillNumbers(coordinator, &row);
    if (!status.ok()) return status;
  }
  return rows;
}

std::vector<Table::Column> SettingColumns(const SweepSettings& settings) {
  std::map<std::string, int> uses = {{"loss", 1}, {"steps", 1}};  // columns of the table
  auto last_part = [](const std::string& key) { return key.substr(key.find_last_of('.') + 1); };
  for (const auto& [key, value] : settings) ++uses[last_part(key)];
  std::vector<Table::Column> columns;
  for (const auto& [key, value] : settings) {
    columns.push_back({uses[last_part(key)] > 1 ? key : last_part(key)});
  }
  return columns;
}

Table SweepTable(const std::vector<SweepRow>& rows) {
  std::vector<Table::Column> columns = {{"JOB"}};
  for (Table::Column& column : SettingColumns(rows.front().settings)) {
    columns.push_back(std::move(column));
  }
  columns.push_back({"STATE"});
  for (const char* title : {"STEPS", "LOSS", "BITS/BYTE", "IMBALANCE", "MIN IMPORTANCE",
                            "MAX IMPORTANCE", "TOKENS/S"}) {
    columns.push_back({title, Table::Align::kRight});
  }
  Table table(std::move(columns));
  for (const SweepRow& row : rows) {
    std::vector<std::string> cells = {row.job.job_id()};
    for (const auto& [key, value] : row.settings) cells.push_back(value);
    cells.push_back(StateName(row.job.state()));
    cells.push_back(absl::StrCat(row.job.progress().step(), "/", row.job.spec().train().steps()));
    cells.push_back(Cell(row.loss));
    cells.push_back(Cell(row.validation_bits_per_byte));
    cells.push_back(Cell(row.imbalance));
    cells.push_back(Cell(row.importance_min));
    cells.push_back(Cell(row.importance_max));
    cells.push_back(row.tokens_per_second.has_value() ? FormatCount(*row.tokens_per_second) : "-");
    table.AddRow(std::move(cells));
  }
  return table;
}

std::string SweepJson(const std::string& sweep, const std::vector<SweepRow>& rows) {
  nlohmann::ordered_json json;
  json["sweep"] = sweep;
  json["jobs"] = nlohmann::ordered_json::array();
  for (const SweepRow& row : rows) {
    nlohmann::ordered_json entry;
    entry["job_id"] = row.job.job_id();
    entry["settings"] = JsonSettings(row.settings);
    entry["state"] = v1::JobState_Name(row.job.state());
    entry["step"] = row.job.progress().step();
    entry["steps_total"] = row.job.spec().train().steps();
    AddNumbers(row, &entry);
    entry["tokens_per_second"] = JsonNumber(row.tokens_per_second);
    json["jobs"].push_back(std::move(entry));
  }
  json["over_seeds"] = nlohmann::ordered_json::array();
  for (const SeedsRow& row : OverSeeds(rows)) {
    nlohmann::ordered_json entry;
    entry["settings"] = JsonSettings(row.settings);
    entry["job_ids"] = row.job_ids;
    entry["succeeded"] = row.succeeded;
    AddNumbers(row, &entry);
    json["over_seeds"].push_back(std::move(entry));
  }
  return JsonText(json);
}

}  // namespace sinkforge::client
