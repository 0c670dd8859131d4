// sinkforge metrics: a job's metric history as a table, CSV or JSON.
#include <algorithm>
#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/session.h"
#include "client/table.h"

namespace sinkforge::client {
namespace {

constexpr int64_t kTablePoints = 20;  // a screenful
constexpr int64_t kPointsMax = 100'000;

struct MetricsOptions {
  std::string job_id;
  std::vector<std::string> series;
  int64_t from = 0;
  int64_t to = 0;
  std::optional<int64_t> points;
  std::optional<int64_t> attempt;
};

// One row a step, one column a series; a series without a point at a step has an empty cell.
Table MakeTable(const v1::QueryMetricsResponse& response, std::string (*format)(double)) {
  std::vector<Table::Column> columns = {{"step", Table::Align::kRight}};
  std::map<int64_t, std::vector<std::string>> rows;
  const auto count = static_cast<size_t>(response.series_size());
  for (size_t s = 0; s < count; ++s) {
    const v1::Series& series = response.series(static_cast<int>(s));
    columns.push_back({series.name(), Table::Align::kRight});
    for (const v1::Point& point : series.points()) {
      auto& cells = rows[point.step()];
      cells.resize(count);
      cells[s] = format(point.value());
    }
  }
  Table table(std::move(columns));
  for (auto& [step, cells] : rows) {
    cells.insert(cells.begin(), absl::StrCat(step));
    table.AddRow(std::move(cells));
  }
  return table;
}

absl::StatusOr<int> Metrics(Session& session, const MetricsOptions& options) {
  if (options.points.has_value() && (*options.points < 1 || *options.points > kPointsMax)) {
    return UsageError(absl::StrCat("--points must be between 1 and ", kPointsMax));
  }
  if (options.from < 0 || options.to < 0) return UsageError("--from and --to count steps from 1");
  v1::QueryMetricsRequest request;
  request.set_job_id(options.job_id);
  for (const std::string& names : options.series) {
    for (const auto& name : absl::StrSplit(names, ',', absl::SkipEmpty())) {
      request.add_series(std::string(name));
    }
  }
  request.set_first_step(options.from);
  request.set_last_step(options.to);
  const bool is_table = session.format() == "table";
  int64_t points = options.points.value_or(kTablePoints);
  if (!options.points.has_value() && !is_table) {
    // Every step; the coordinator bounds what one answer holds, so that more is not asked for.
    const auto job = session.coordinator().GetJob(options.job_id);
    if (!job.ok()) return job.status();
    points = std::clamp<int64_t>(job->spec().train().steps(), 1, kPointsMax);
  }
  request.set_max_points(static_cast<int32_t>(points));
  if (options.attempt.has_value()) request.set_attempt(*options.attempt);
  const auto response = session.coordinator().QueryMetrics(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return kExitOk;
  }
  if (!is_table) {
    session.out() << MakeTable(*response, FormatExact).RenderCsv();
    return kExitOk;
  }
  const Table table = MakeTable(*response, FormatNumber);
  session.out() << table.Render(0) << std::flush;
  bool ranges = false;
  for (const v1::Series& series : response->series()) {
    for (const v1::Point& point : series.points()) ranges = ranges || point.count() > 1;
  }
  if (ranges)
    session.Say(
        "each row is the mean over the steps since the row before; more rows with --points N");
  if (table.row_count() == 0) session.Say("no points there yet");
  return kExitOk;
}

}  // namespace

Command MetricsCommand() {
  auto options = std::make_shared<MetricsOptions>();
  Command command;
  command.name = "metrics";
  command.summary = "Print a job's metric history";
  command.examples =
      "  sinkforge metrics d4-gated-1\n"
      "  sinkforge metrics d4-gated-1 --series loss,imbalance --from 100 --to 200 -o csv\n"
      "  sinkforge metrics d4-gated-1 --series importance/0 --points 5   # every head of layer 0\n"
      "Series: loss, aux_loss, imbalance, learning_rate_scale, gradient_norm, step_seconds,\n"
      "tokens_per_second, tokens_total, validation_loss, validation_bits_per_byte, memory_bytes,\n"
      "importance_min, importance_max, layer_cv/LAYER, importance/LAYER/HEAD; a prefix names all\n"
      "below it. A table shows 20 points unless told, CSV and JSON all of them.";
  command.arguments = {{.name = "JOB", .help = "The job's id", .target = &options->job_id}};
  command.options = {
      {"--series", "NAMES", "Series, separated by commas; repeatable (default: the scalar ones)",
       &options->series},
      {"--from", "STEP", "First step (default: the first)", &options->from},
      {"--to", "STEP", "Last step (default: the last)", &options->to},
      {"--points", "N", "At most N points a series, each the mean of a range of steps",
       &options->points},
      {"--attempt", "N", "Only what this attempt measured, also where a later one went back",
       &options->attempt}};
  command.formats = {"table", "json", "csv"};
  command.run = [options](Session& session) { return Metrics(session, *options); };
  return command;
}

}  // namespace sinkforge::client
