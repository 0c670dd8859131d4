// One point a series tells how many series there are and where they end; windows follow.
#include "client/metric_windows.h"

#include <algorithm>

namespace sinkforge::client {
namespace {

constexpr int64_t kAnswerPointsMax = 100'000;  // the coordinator's bound, over all series

int64_t LastStep(const v1::QueryMetricsResponse& response) {
  int64_t last = 0;
  for (const v1::Series& series : response.series()) {
    if (!series.points().empty()) last = std::max(last, series.points().rbegin()->step());
  }
  return last;
}

}  // namespace

absl::Status QueryEveryStep(
    Coordinator& coordinator, v1::QueryMetricsRequest request,
    const std::function<void(const v1::QueryMetricsResponse& window)>& on_window) {
  request.set_max_points(1);
  const auto overview = coordinator.QueryMetrics(request);
  if (!overview.ok()) return overview.status();
  const int64_t last = LastStep(*overview);
  if (last == 0) {
    on_window(*overview);
    return absl::OkStatus();
  }
  const int64_t window_steps =
      std::max<int64_t>(1, kAnswerPointsMax / std::max(1, overview->series_size()));
  // As many points as steps: the coordinator has nothing to put together.
  request.set_max_points(static_cast<int32_t>(window_steps));
  for (int64_t first = std::max<int64_t>(1, request.first_step()); first <= last;
       first += window_steps) {
    request.set_first_step(first);
    request.set_last_step(std::min(last, first + window_steps - 1));
    const auto window = coordinator.QueryMetrics(request);
    if (!window.ok()) return window.status();
    on_window(*window);
  }
  return absl::OkStatus();
}

}  // namespace sinkforge::client
