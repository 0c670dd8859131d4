// Range, series and resolution of a metric query; see metric_query.h.
#include "server/engine/metric_query.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/engine/down_sampler.h"

namespace sinkforge::server {
namespace {

absl::Status CheckRange(const v1::QueryMetricsRequest& request) {
  if (request.first_step() < 0 || request.last_step() < 0 ||
      (request.last_step() > 0 && request.first_step() > request.last_step())) {
    return absl::InvalidArgumentError(
        absl::StrCat("steps ", request.first_step(), " to ", request.last_step(),
                     ": give 0 <= first_step <= last_step, or last_step 0 for the last"));
  }
  if (request.has_attempt() && request.attempt() < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("attempt ", request.attempt(), ": attempts count from 1"));
  }
  if (request.max_points() < 0 || request.max_points() > kQueryPointsMax) {
    return absl::InvalidArgumentError(absl::StrCat("max_points ", request.max_points(),
                                                   ": give 1 to ", kQueryPointsMax,
                                                   ", or 0 for the default"));
  }
  if (request.series_size() > kQueryNamesMax) {
    return absl::InvalidArgumentError(absl::StrCat(request.series_size(), " series names: at most ",
                                                   kQueryNamesMax,
                                                   "; a prefix such as importance/0 names many"));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> PointsPerSeries(int32_t asked, int64_t series) {
  if (asked == 0) return std::clamp<int64_t>(kQueryPointsMax / series, 1, kQueryPointsDefault);
  if (asked * series <= kQueryPointsMax) return asked;
  return absl::InvalidArgumentError(absl::StrCat(
      series, " series of ", asked, " points: more than ", kQueryPointsMax,
      " points in one answer; ask for ", std::max<int64_t>(kQueryPointsMax / series, 1),
      " points a series or less, or for fewer series"));
}

RangeValue RangeValueOf(const SeriesId& series) {
  switch (series.kind) {
    case SeriesKind::kLearningRateScale:
    case SeriesKind::kTokensTotal:
    case SeriesKind::kValidationLoss:
    case SeriesKind::kValidationBitsPerByte:
    case SeriesKind::kMemoryBytes:
      return RangeValue::kLast;
    default:
      return RangeValue::kMean;
  }
}

}  // namespace

absl::StatusOr<v1::QueryMetricsResponse> QueryHistory(const HistoryStore& history,
                                                      const v1::QueryMetricsRequest& request,
                                                      const ModelShape& shape,
                                                      const std::function<bool()>& is_cancelled) {
  const absl::Status checked = CheckRange(request);
  if (!checked.ok()) return checked;
  const std::vector<std::string> names(request.series().begin(), request.series().end());
  const auto series = ParseSeries(names, shape, kQueryPointsMax);
  if (!series.ok()) return series.status();
  const auto points_max = PointsPerSeries(
      request.max_points(), std::max<int64_t>(1, static_cast<int64_t>(series->size())));
  if (!points_max.ok()) return points_max.status();

  StepRange range;
  range.job_id = request.job_id();
  range.first_step = request.first_step();
  if (request.last_step() > 0) range.last_step = request.last_step();
  if (request.has_attempt()) range.attempt = request.attempt();
  const auto extent = history.Extent(range);
  if (!extent.ok()) return extent.status();
  range.last_step = extent->last;  // records that come meanwhile are left for the next query

  std::vector<DownSampler> samplers;
  for (const SeriesId& id : *series) samplers.emplace_back(*extent, *points_max, RangeValueOf(id));
  bool cancelled = false;
  const absl::Status read = history.Read(range, [&](const v1::StepRecord& record) {
    for (size_t i = 0; i < series->size(); ++i) {
      const auto value = ValueOf(record, (*series)[i]);
      if (value.has_value()) samplers[i].Add(record.step(), *value);
    }
    cancelled = is_cancelled();
    return !cancelled;
  });
  if (!read.ok()) return read;
  if (cancelled) return absl::CancelledError("the client has gone");

  v1::QueryMetricsResponse response;
  for (size_t i = 0; i < series->size(); ++i) {
    v1::Series* added = response.add_series();
    added->set_name((*series)[i].name);
    for (v1::Point& point : samplers[i].Points()) *added->add_points() = std::move(point);
  }
  return response;
}

}  // namespace sinkforge::server
