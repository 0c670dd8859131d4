// sinkforge metrics: a job's metric history as a table, CSV or JSON.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/metric_windows.h"
#include "client/session.h"
#include "client/table.h"

namespace sinkforge::client {
namespace {

constexpr int64_t kTablePoints = 20;  // a screenful
constexpr int64_t kPointsMax = 100'000;

struct MetricsOptions {
  std::string job_id;
  std::vector<std::string> series;
  std::optional<int64_t> from;
  std::optional<int64_t> to;
  std::optional<int64_t> points;
  std::optional<int64_t> attempt;
};

// Ends of the ranges that the points stand for; empty where every point is one step. All series
// share them, but for those that are sparse enough to come whole.
std::set<int64_t> RangeEnds(const v1::QueryMetricsResponse& response) {
  std::set<int64_t> ends;
  for (const v1::Series& series : response.series()) {
    const bool is_ranged = std::any_of(series.points().begin(), series.points().end(),
                                       [](const v1::Point& point) { return point.count() > 1; });
    if (!is_ranged) continue;
    for (const v1::Point& point : series.points()) ends.insert(point.step());
  }
  return ends;
}

// One row a step, or a range of steps; one column a series. A series without a point there has an
// empty cell; of several points of a sparse series in one range, such as validation, the last
// counts.
Table MakeTable(const v1::QueryMetricsResponse& response, std::string (*format)(double)) {
  const std::set<int64_t> ends = RangeEnds(response);
  std::vector<Table::Column> columns = {{"step", Table::Align::kRight}};
  std::map<int64_t, std::vector<std::optional<double>>> rows;
  const auto count = static_cast<size_t>(response.series_size());
  for (size_t s = 0; s < count; ++s) {
    const v1::Series& series = response.series(static_cast<int>(s));
    columns.push_back({series.name(), Table::Align::kRight});
    for (const v1::Point& point : series.points()) {
      const auto end = ends.lower_bound(point.step());
      auto& cells = rows[end == ends.end() ? point.step() : *end];
      cells.resize(count);
      cells[s] = point.value();
    }
  }
  Table table(std::move(columns));
  for (const auto& [step, cells] : rows) {
    std::vector<std::string> texts = {absl::StrCat(step)};
    for (const std::optional<double>& cell : cells) {
      texts.push_back(cell.has_value() ? format(*cell) : "");
    }
    table.AddRow(std::move(texts));
  }
  return table;
}

absl::Status CheckRange(const MetricsOptions& options) {
  for (const auto& [flag, step] :
       {std::pair("--from", options.from), std::pair("--to", options.to)}) {
    if (!step.has_value() || *step >= 1) continue;
    return UsageError(absl::StrCat(flag, " ", *step, ": steps count from 1; leave it out for the ",
                                   flag == std::string("--to") ? "last" : "first", " one"));
  }
  if (!options.from.has_value() || !options.to.has_value() || *options.from <= *options.to) {
    return absl::OkStatus();
  }
  return UsageError(absl::StrCat("--from ", *options.from, " --to ", *options.to,
                                 ": the first step comes after the last"));
}

absl::Status PrintEveryStep(Session& session, const v1::QueryMetricsRequest& request) {
  if (session.json()) {
    v1::QueryMetricsResponse all;
    const absl::Status status =
        QueryEveryStep(session.coordinator(), request, [&](const v1::QueryMetricsResponse& window) {
          for (int s = 0; s < window.series_size(); ++s) {
            if (s == all.series_size()) all.add_series()->set_name(window.series(s).name());
            all.mutable_series(s)->mutable_points()->MergeFrom(window.series(s).points());
          }
        });
    if (status.ok()) session.PrintJson(all);
    return status;
  }
  auto titles = Table::CsvTitles::kShown;
  return QueryEveryStep(session.coordinator(), request,
                        [&](const v1::QueryMetricsResponse& window) {
                          session.out() << MakeTable(window, FormatExact).RenderCsv(titles);
                          titles = Table::CsvTitles::kLeftOut;
                        });
}

absl::StatusOr<int> Metrics(Session& session, const MetricsOptions& options) {
  if (options.points.has_value() && (*options.points < 1 || *options.points > kPointsMax)) {
    return UsageError(absl::StrCat("--points must be between 1 and ", kPointsMax));
  }
  const absl::Status range = CheckRange(options);
  if (!range.ok()) return range;
  v1::QueryMetricsRequest request;
  request.set_job_id(options.job_id);
  for (const std::string& names : options.series) {
    for (const auto& name : absl::StrSplit(names, ',', absl::SkipEmpty())) {
      request.add_series(std::string(name));
    }
  }
  if (request.series().empty() && !options.series.empty()) {
    return UsageError("--series: names none; leave it out for the scalar ones");
  }
  request.set_first_step(options.from.value_or(0));
  request.set_last_step(options.to.value_or(0));
  if (options.attempt.has_value()) request.set_attempt(*options.attempt);
  const bool is_table = session.format() == "table";
  if (!is_table && !options.points.has_value()) {
    const absl::Status printed = PrintEveryStep(session, request);
    if (!printed.ok()) return printed;
    return kExitOk;
  }
  request.set_max_points(static_cast<int32_t>(options.points.value_or(kTablePoints)));
  const auto response = session.coordinator().QueryMetrics(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return kExitOk;
  }
  if (!is_table) {
    session.out() << MakeTable(*response, FormatExact).RenderCsv(Table::CsvTitles::kShown);
    return kExitOk;
  }
  const Table table = MakeTable(*response, FormatNumber);
  session.out() << table.Render(0) << std::flush;
  bool ranges = false;
  for (const v1::Series& series : response->series()) {
    for (const v1::Point& point : series.points()) ranges = ranges || point.count() > 1;
  }
  if (ranges) {
    session.Say(
        "each row is the mean over the steps since the row before (of learning_rate_scale, "
        "tokens_total, memory_bytes and validation the last); more rows with --points N");
  }
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
      "below it. A table shows 20 points unless told, CSV and JSON all of them. A point that "
      "stands\n"
      "for several steps has their mean; of learning_rate_scale, tokens_total, memory_bytes and\n"
      "validation the last.";
  command.arguments = {{.name = "JOB", .help = "The job's id", .target = &options->job_id}};
  command.options = {
      {"--series", "NAMES", "Series, separated by commas; repeatable (default: the scalar ones)",
       &options->series},
      {"--from", "STEP", "First step (default: the first)", &options->from},
      {"--to", "STEP", "Last step (default: the last)", &options->to},
      {"--points", "N", "At most N points a series, each for a range of steps", &options->points},
      {"--attempt", "N", "Only what this attempt measured, also where a later one went back",
       &options->attempt}};
  command.formats = {"table", "json", "csv"};
  command.run = [options](Session& session) { return Metrics(session, *options); };
  return command;
}

}  // namespace sinkforge::client
